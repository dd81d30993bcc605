package redo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// small makes segments that are soon full.
const small = 16 << 10

func fresh(tb testing.TB) *crashfs.FS {
	tb.Helper()
	d := crashfs.New()
	if err := disk.MkdirAll(d, "/log"); err != nil {
		tb.Fatal(err)
	}
	return d
}

// read opens a log, which adds to the list of its records.
func read(d disk.FS, from Position, into *[]string) (*Log, error) {
	return Open(Options{FS: d, Dir: "/log", Room: small}, from, func(_ Position, record []byte) error {
		*into = append(*into, string(record))
		return nil
	})
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// add appends a record and waits until it is durable.
func add(l *Log, record string) (Position, error) {
	ctx := context.Background()
	p, err := l.Append(ctx, []byte(record))
	if err != nil {
		return 0, err
	}
	return p, l.Wait(ctx, p)
}

// text is the nth record: of any length.
func text(r *rand.Rand, n int) string {
	return fmt.Sprintf("%06d ", n) + strings.Repeat("x", r.IntN(900))
}

// TestGivenUp: who gave up waiting, also at once, holds up nobody that comes later.
func TestGivenUp(t *testing.T) {
	l, err := read(fresh(t), 0, new([]string))
	must(t, err)
	given, cancel := context.WithCancel(context.Background())
	cancel()
	for range 100 {
		p, err := l.Append(context.Background(), []byte("record"))
		must(t, err)
		if err := l.Wait(given, p); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		must(t, l.Wait(context.Background(), p))
	}
	must(t, l.Close())
}

// TestLog: what was written is read, from the beginning and from any record on,
// over many segments, and old ones are used again.
func TestLog(t *testing.T) {
	d, r := fresh(t), rand.New(rand.NewPCG(1, 1))
	var want []string
	var ends []Position
	for range 5 {
		var got []string
		l, err := read(d, 0, &got)
		must(t, err)
		if !slices.Equal(got, want) {
			t.Fatalf("%d records, not %d", len(got), len(want))
		}
		for range 100 {
			want = append(want, text(r, len(want)))
			p, err := add(l, want[len(want)-1])
			must(t, err)
			ends = append(ends, p)
		}
		must(t, l.Close())
	}
	for i := 0; i < len(ends); i += 37 {
		var got []string
		l, err := read(d, ends[i], &got)
		must(t, err)
		if !slices.Equal(got, want[i+1:]) {
			t.Fatalf("behind record %d: %d records", i, len(got))
		}
		if i > 300 {
			l.Trim(ends[300])
		}
		must(t, l.Close())
	}
	var got []string
	if _, err := read(d, ends[10], &got); !errors.As(err, new(*DamageError)) {
		t.Errorf("what was trimmed is read: %v", err)
	}
	l, err := read(d, ends[400], &got)
	must(t, err)
	for range 200 {
		_, err := add(l, text(r, 0))
		must(t, err)
		l.Trim(l.Durable())
	}
	must(t, l.Close())
	entries, err := d.ReadDir("/log")
	must(t, err)
	if len(entries) > 8 {
		t.Errorf("%d files for nothing", len(entries))
	}
}

// TestMany: many write at once, and each record is read once, those of each
// writer in their order.
func TestMany(t *testing.T) {
	d := fresh(t)
	var none []string
	l, err := read(d, 0, &none)
	must(t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex // one appends at a time
	for w := range 16 {
		wg.Go(func() {
			for n := range 200 {
				record := fmt.Sprintf("%d %d", w, n)
				mu.Lock()
				p, err := l.Append(context.Background(), []byte(record))
				mu.Unlock()
				if err == nil {
					err = l.Wait(context.Background(), p)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	must(t, l.Close())
	var got []string
	l, err = read(d, 0, &got)
	must(t, err)
	must(t, l.Close())
	next := map[int]int{}
	for _, record := range got {
		var w, n int
		fmt.Sscan(record, &w, &n)
		if next[w] != n {
			t.Fatalf("record %d of writer %d comes where %d should", n, w, next[w])
		}
		next[w]++
	}
	if len(got) != 16*200 {
		t.Errorf("%d records", len(got))
	}
}

// life writes until something fails, and returns what was acknowledged and what
// was appended.
func life(d disk.FS, r *rand.Rand, records int) (acked, asked []string, err error) {
	var old []string
	l, err := read(d, 0, &old)
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	acked, asked = slices.Clone(old), slices.Clone(old)
	for range records {
		group := 1 + r.IntN(3)
		var p Position
		for range group {
			record := text(r, len(asked))
			if p, err = l.Append(context.Background(), []byte(record)); err != nil {
				return acked, asked, err
			}
			asked = append(asked, record)
		}
		if err := l.Wait(context.Background(), p); err != nil {
			return acked, asked, err
		}
		acked = asked
	}
	return acked, asked, nil
}

// held says what is wrong with what was read.
func held(acked, asked, got []string) error {
	switch {
	case len(got) < len(acked):
		return fmt.Errorf("%d records were acknowledged, %d are there", len(acked), len(got))
	case len(got) > len(asked) || !slices.Equal(got, asked[:len(got)]):
		return fmt.Errorf("%d records are there, of which some were never written", len(got))
	}
	return nil
}

// errCut says that the power is gone.
var errCut = errors.New("cut")

// TestCut cuts the power at each call on the disk, several lives long, and lets
// any part of what was not synced reach the disk.
func TestCut(t *testing.T) {
	points := 0
	for at := 1; ; at++ {
		r := rand.New(rand.NewPCG(2, uint64(at)))
		d, calls, gone := fresh(t), 0, false
		var mu sync.Mutex
		d.Watch(func(op disk.Op) (disk.Verdict, error) {
			mu.Lock()
			defer mu.Unlock()
			if crashfs.Changes(op) {
				calls++
			}
			if gone = gone || calls >= at; gone {
				return []disk.Verdict{disk.Fail, disk.Lie}[at%2], errCut
			}
			return disk.Do, nil
		})
		var acked, asked []string
		var err error
		for range 3 {
			if acked, asked, err = life(d, r, 12); err != nil {
				break
			}
		}
		if err == nil {
			break // no call is left
		}
		points++
		for seed := range uint64(4) {
			after := d.Crash(seed)
			var got []string
			l, err := read(after, 0, &got)
			if err != nil {
				t.Fatalf("cut %d, disk %d: %v", at, seed, err)
			}
			if err := held(acked, asked, got); err != nil && len(asked) > 0 {
				t.Fatalf("cut %d, disk %d: %v", at, seed, err)
			}
			must(t, l.Close())
			again := got
			got = nil
			if l, err = read(after.Crash(seed), 0, &got); err != nil || !slices.Equal(got, again) {
				t.Fatalf("cut %d, disk %d: what was served is not there after another cut: %v, %d of %d", at, seed, err, len(got), len(again))
			}
			must(t, l.Close())
		}
	}
	t.Logf("%d cut points", points)
	if points < 60 {
		t.Errorf("only %d cut points", points)
	}
}

// TestFlip flips each bit that counts of a log that was closed: nothing wrong is
// read, and nothing is lost without a word.
func TestFlip(t *testing.T) {
	d := fresh(t)
	acked, _, err := life(d, rand.New(rand.NewPCG(3, 3)), 30)
	must(t, err)
	entries, err := d.ReadDir("/log")
	must(t, err)
	r := rand.New(rand.NewPCG(4, 4))
	flips, noticed := 0, 0
	for _, e := range entries {
		name := filepath.Join("/log", e.Name())
		fi, err := d.Lstat(name)
		must(t, err)
		for bit := r.Int64N(64); bit < fi.Size()*8; bit += 1 + r.Int64N(600) {
			after := d.Crash(0)
			must(t, after.Flip(name, bit))
			var got []string
			l, err := read(after, 0, &got)
			flips++
			if err != nil {
				if !errors.As(err, new(*DamageError)) {
					t.Fatalf("%s, bit %d: %v", name, bit, err)
				}
				noticed++
				continue
			}
			if err := held(acked, acked, got); err != nil {
				t.Fatalf("%s, bit %d: %v", name, bit, err)
			}
			must(t, l.Close())
		}
	}
	t.Logf("%d flips, %d noticed", flips, noticed)
	if noticed < flips/50 {
		t.Errorf("%d of %d flips were noticed", noticed, flips)
	}
}

// TestFlipHeaders damages both headers of each segment: what was in use is not
// taken for one that is not.
func TestFlipHeaders(t *testing.T) {
	d := fresh(t)
	acked, _, err := life(d, rand.New(rand.NewPCG(3, 3)), 30)
	must(t, err)
	entries, err := d.ReadDir("/log")
	must(t, err)
	noticed := 0
	for _, e := range entries {
		after, name := d.Crash(0), filepath.Join("/log", e.Name())
		must(t, after.Flip(name, 8*30))
		must(t, after.Flip(name, 8*(headerCopy+44)))
		var got []string
		l, err := read(after, 0, &got)
		if err != nil {
			if !errors.As(err, new(*DamageError)) {
				t.Errorf("%s: %v", name, err)
			}
			noticed++
			continue
		}
		if err := held(acked, acked, got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		must(t, l.Close())
	}
	if noticed == 0 {
		t.Error("nobody noticed")
	}
}

// TestReadMeanwhile: who reads a log that is open is not disturbed when a file
// that is not in use gets another name.
func TestReadMeanwhile(t *testing.T) {
	d := fresh(t)
	var got []string
	l, err := read(d, 0, &got)
	must(t, err)
	p, err := add(l, "a record")
	must(t, err)
	must(t, l.Close())
	entries, err := d.ReadDir("/log")
	must(t, err)
	for _, e := range entries {
		after, name := d.Crash(0), filepath.Join("/log", e.Name())
		if _, err := readHeader(after, "/log", mustNumber(t, e.Name())); !errors.Is(err, errUnused) {
			continue
		}
		after.Watch(func(op disk.Op) (disk.Verdict, error) {
			if op.Verb == "open" && op.Name == name {
				after.Watch(nil)
				must(t, after.Rename(name, segmentName("/log", 99)))
			}
			return disk.Do, nil
		})
		got = nil
		_, _, err := Read(Options{FS: after, Dir: "/log"}, 0, p, func(_ Position, record []byte) error {
			got = append(got, string(record))
			return nil
		})
		if err != nil || !slices.Equal(got, []string{"a record"}) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func mustNumber(t *testing.T, base string) uint64 {
	t.Helper()
	n, ok := segmentNumber(base)
	if !ok {
		t.Fatal(base)
	}
	return n
}

// TestRewrite: a file whose fsync fails is not trusted, and nothing is lost;
// where no other can be written either, everybody is told.
func TestRewrite(t *testing.T) {
	for fails := range 4 {
		synctest.Test(t, func(t *testing.T) { rewrite(t, fails) })
	}
}

func rewrite(t *testing.T, fails int) {
	d := fresh(t)
	var none, want []string
	l, err := read(d, 0, &none)
	must(t, err)
	for n := range 5 {
		want = append(want, fmt.Sprint("before ", n))
		_, err := add(l, want[n])
		must(t, err)
	}
	synctest.Wait() // nobody may use the disk meanwhile
	var mu sync.Mutex
	left, made := fails, map[string]bool{}
	d.Watch(func(op disk.Op) (disk.Verdict, error) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case op.Verb == "create": // a file keeps the name under which it was opened
			made[op.Name] = true
		case op.Verb == "rename":
			delete(made, op.Name)
		case op.Verb == "sync" && !made[op.Name] && left > 0:
			left--
			return disk.Fail, nil
		}
		return disk.Do, nil
	})
	_, err = add(l, "now")
	if poisoned := fails > rewrites; poisoned != errors.Is(err, ErrPoisoned) || !poisoned && err != nil {
		t.Fatalf("%d failures: %v", fails, err)
	}
	if err == nil {
		want = append(want, "now", "then")
		_, err := add(l, "then")
		must(t, err)
	} else if _, err := add(l, "then"); !errors.Is(err, ErrPoisoned) {
		t.Errorf("a poisoned log goes on: %v", err)
	}
	_ = l.Close()
	d.Watch(nil)
	for seed := range uint64(6) {
		var got []string
		l, err := read(d.Crash(seed), 0, &got)
		must(t, err)
		if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Errorf("%d failures, disk %d: %q", fails, seed, got)
		}
		must(t, l.Close())
	}
}

// TestFull: a disk without room refuses before anything is lost, and goes on by
// itself when there is room.
func TestFull(t *testing.T) { synctest.Test(t, full) }

func full(t *testing.T) {
	d := fresh(t)
	var none, acked []string
	l, err := read(d, 0, &none)
	must(t, err)
	_, err = add(l, "first")
	must(t, err)
	acked = append(acked, "first")
	d.SetRoom(0)
	for n := 0; err == nil; n++ {
		record := fmt.Sprint(n, strings.Repeat("y", 1000))
		if _, err = add(l, record); err == nil {
			acked = append(acked, record)
		}
		if n > 1000 {
			t.Fatal("it is never full")
		}
	}
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	d.SetRoom(-1)
	for err != nil {
		time.Sleep(again)
		if _, err = add(l, "last"); err != nil && !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
	}
	must(t, l.Close())
	var got []string
	l, err = read(d.Crash(0), 0, &got)
	must(t, err)
	if want := append(acked, "last"); !slices.Equal(got, want) {
		t.Errorf("%d records, not %d", len(got), len(want))
	}
	must(t, l.Close())
}
