package durable_test

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/durable/durabletest"
)

// TestFull fills the disk at many instants. Nothing is changed that was refused,
// all can be read, and when there is room it goes on by itself.
func TestFull(t *testing.T) {
	fulls := 0
	for room := int64(0); room < 400; room += 7 {
		synctest.Test(t, func(t *testing.T) {
			if full(t, room*durabletest.Sector) {
				fulls++
			}
		})
	}
	if t.Logf("full %d times", fulls); fulls < 40 {
		t.Error("they are too few")
	}
}

func full(t *testing.T, room int64) (was bool) {
	c := &client{t: t, all: &states{}, tables: 4}
	d := durabletest.NewDisk()
	s, err := c.open(d)
	for err == nil && c.acked < 10 {
		err = c.update(s)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.SetRoom(room)
	for n := 0; err == nil && c.acked < 600; n++ {
		if n%50 == 20 {
			if err := s.Checkpoint(context.Background()); err != nil && !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("room %d: checkpoint: %v", room, err)
			}
		}
		if err = c.update(s); err != nil && !errors.Is(err, durable.ErrFull) {
			t.Errorf("room %d: update: %v", room, err)
		}
	}
	was = err != nil
	if n, err := s.whole(c.all); err != nil || n != c.acked {
		t.Errorf("room %d, full: %d of %d, %v", room, n, c.acked, err)
	}
	for range 3 * (1 - room%2) { // other processes meet the full disk, of which the first ones take what the log has in reserve
		if !was {
			break
		}
		_ = s.Close()
		d = d.Kill()
		if s, err = c.open(d); err != nil {
			t.Fatalf("room %d: open: %v", room, err)
		}
		if n, err := s.whole(c.all); err != nil || n < c.acked {
			t.Errorf("room %d, opened on the full disk: %d of %d, %v", room, n, c.acked, err)
		}
		if err = c.update(s); !errors.Is(err, durable.ErrFull) && err != nil {
			t.Errorf("room %d, opened on the full disk: update: %v", room, err)
		}
	}
	d.SetRoom(-1)
	for end := time.Now().Add(time.Minute); was; time.Sleep(time.Second) {
		if err = c.update(s); err == nil || time.Now().After(end) {
			break
		}
	}
	if was && err != nil {
		t.Errorf("room %d, there is room again: %v", room, err)
	}
	if err := errors.Join(s.Checkpoint(context.Background()), s.Close(), c.check(d.Cut(durabletest.LoseAll))); err != nil {
		t.Errorf("room %d, at the end: %v", room, err)
	}
	return was
}

// TestPoisoned: when the log can be written nowhere everybody hears it, who reads
// as well, until the database is opened again.
func TestPoisoned(t *testing.T) {
	for after := range 12 {
		synctest.Test(t, func(t *testing.T) {
			c := &client{t: t, all: &states{}}
			d := durabletest.NewDisk()
			s, err := c.open(d)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // until there are segments beforehand
			d.Inject(durabletest.Fault{After: after, On: func(op durabletest.Op) bool {
				return op.Verb == "sync" && strings.HasSuffix(op.Name, ".redo")
			}})
			for err == nil && c.acked < c.limit() {
				err = c.update(s)
			}
			if !errors.Is(err, durable.ErrPoisoned) {
				t.Fatalf("update: %v", err)
			}
			d.Heal()
			time.Sleep(time.Hour)
			view := s.View(context.Background(), func(*durable.Tx) error { return nil })
			for what, err := range map[string]error{"update": c.update(s), "view": view, "checkpoint": s.Checkpoint(context.Background())} {
				if !errors.Is(err, durable.ErrPoisoned) {
					t.Errorf("after %d fsyncs: %s: %v", after, what, err)
				}
			}
			_ = s.Close()
			for keep := range durabletest.Survivors(8) {
				own := &client{t: t, all: c.all, tables: c.tables, begun: c.begun, acked: c.acked}
				if err := own.check(d.Cut(keep)); err != nil {
					t.Errorf("after %d fsyncs, %v: %v", after, keep, err)
				}
			}
		})
	}
}
