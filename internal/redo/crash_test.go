package redo_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/durable/durabletest"
	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/redo"
)

// client knows what it has asked a log for, and what was acknowledged.
type client struct {
	begun []string
	acked int           // of begun
	from  redo.Position // from where on it needs the log
	first int           // of begun that it needs

	hook func(disk.FS) disk.FS // nil: none
}

var cutsN = flag.Int("crash.n", 0, "power cuts; 0: each call")

// segmentRoom makes segments that are soon full.
const segmentRoom = 8 << 10

// open opens the log and compares. What is there from now on must be there, and
// what is not never comes.
func (c *client) open(d disk.FS) (*redo.Log, error) {
	if c.hook != nil {
		d = c.hook(d)
	}
	var got []string
	l, err := redo.Open(redo.Options{FS: d, Dir: "/log", Room: segmentRoom}, c.from, func(_ redo.Position, record []byte) error {
		got = append(got, string(record))
		return nil
	})
	if err != nil {
		return nil, err
	}
	begun := c.begun[c.first:]
	if len(got) < c.acked-c.first || len(got) > len(begun) || !slices.Equal(got, begun[:len(got)]) {
		return nil, errors.Join(l.Close(), &wrong{c.acked - c.first, len(begun), got})
	}
	c.acked = c.first + len(got)
	c.begun = c.begun[:c.acked]
	return l, nil
}

// wrong is what a log must not hold.
type wrong struct {
	acked, begun int
	got          []string
}

func (w *wrong) Error() string {
	return fmt.Sprintf("%d records are there, %d were written and %d acknowledged", len(w.got), w.begun, w.acked)
}

// run writes some records, several with one flush, and forgets the first ones.
func (c *client) run(d disk.FS) (err error) {
	l, err := c.open(d)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, l.Close()); err == nil {
			c.acked = len(c.begun) // Close has written the last one
		}
	}()
	r := rand.New(rand.NewPCG(1, uint64(len(c.begun))))
	for n := range 9 {
		var p redo.Position
		for range 1 + r.IntN(3) {
			record := fmt.Sprintf("%d %d ", len(c.begun), r.Uint32()) + strings.Repeat("x", r.IntN(900))
			if err := l.Reserve(context.Background(), len(record)); err != nil {
				return err
			}
			c.begun = append(c.begun, record)
			p = l.Append([]byte(record))
		}
		if n == 8 {
			break
		}
		if err := l.Wait(context.Background(), p); err != nil {
			return err
		}
		c.acked = len(c.begun)
		switch n {
		case 3, 7:
			time.Sleep(time.Second) // so that the log says by itself what is durable
		case 5:
			c.from, c.first = p, c.acked
			l.Trim(p)
		}
	}
	return nil
}

func (c *client) check(d disk.FS) error {
	l, err := c.open(d)
	if err != nil {
		return err
	}
	return l.Close()
}

// suite is what is tried with a log.
func suite(t durabletest.TB, o durabletest.Options, fault error, hook func(disk.FS) disk.FS) durabletest.Report {
	o.Disk = func() *durabletest.Disk {
		d := durabletest.NewDisk()
		if err := disk.MkdirAll(d, "/log"); err != nil {
			t.Errorf("%v", err)
		}
		return d
	}
	begin := func() durabletest.Test {
		c := &client{hook: hook}
		return durabletest.Test{Run: c.run, Check: c.check}
	}
	if fault != nil {
		return durabletest.Fail(t, o, fault, begin)
	}
	return durabletest.Crash(t, o, begin)
}

// TestCrash cuts the power at each call, and again and again.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if r := suite(t, durabletest.Options{Seed: 1, Cuts: *cutsN}, nil, nil); r.Of < 40 {
			t.Errorf("only %d calls", r.Of)
		}
	})
}

// TestFault lets each call fail.
func TestFault(t *testing.T) {
	for _, err := range []error{syscall.EIO, syscall.ENOSPC} {
		synctest.Test(t, func(t *testing.T) { suite(t, durabletest.Options{Seed: 1}, err, nil) })
	}
}

// TestForged: a record that looks like a frame does not make a torn tail a
// damage.
func TestForged(t *testing.T) {
	if why := forged(t); why != "" {
		t.Error(why)
	}
}

// forged writes a record that is full of frames, and loses parts of it. It
// returns what is wrong then.
func forged(t *testing.T) (why string) {
	synctest.Test(t, func(t *testing.T) {
		d, c := durabletest.NewDisk(), &client{}
		if err := disk.MkdirAll(d, "/log"); err != nil {
			t.Fatal(err)
		}
		l, err := c.open(d)
		if err != nil {
			t.Fatal(err)
		}
		const header, length = 32, 2 // of a frame, and of a record before it
		begin := l.End() + header + length
		record := make([]byte, 3000)
		for at := 16 - length; at+header < len(record); at += 48 {
			f := record[at:]
			binary.LittleEndian.PutUint64(f[8:], uint64(begin)+uint64(at))  // its position
			binary.LittleEndian.PutUint64(f[16:], uint64(begin)+uint64(at)) // all before it is durable
			f[24] = 1
		}
		if err := l.Reserve(context.Background(), len(record)); err != nil {
			t.Fatal(err)
		}
		p := l.Append(record)
		c.begun = append(c.begun, string(record))
		synctest.Wait() // until there are enough segments
		d.CutAt(2) // the fsync
		if err := l.Wait(context.Background(), p); err == nil {
			t.Error("durable without power")
		}
		_ = l.Close()
		for n := range durabletest.Survivors(40) {
			own := *c
			if err := own.check(d.Cut(n)); err != nil {
				why = fmt.Sprintf("%v survives: %v", n, err)
			}
		}
	})
	return why
}
