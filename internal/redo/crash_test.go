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
	full bool                  // the disk is full whenever the log is opened, and no segment is made beforehand
}

var cutsN = flag.Int("crash.n", 0, "power cuts; 0: each call")

// segmentRoom makes segments that are soon full.
const segmentRoom = 8 << 10

// open opens the log and compares. What is there from now on must be there, and
// what is not never comes.
func (c *client) open(d disk.FS) (*redo.Log, error) {
	if c.full && c.acked > 0 {
		fill(d)
		defer func() {
			d.(*durabletest.Disk).SetRoom(-1)
			time.Sleep(time.Second) // until the log has seen that there is room
		}()
	}
	fs := d
	if c.hook != nil {
		fs = c.hook(d)
	}
	var got []string
	l, err := redo.Open(redo.Options{FS: fs, Dir: "/log", Room: segmentRoom}, c.from, func(_ redo.Position, record []byte) error {
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

// fill leaves no room on a disk, nor in the log.
func fill(fs disk.FS) {
	d := fs.(*durabletest.Disk)
	d.SetRoom(0)
	files, err := d.ReadDir("/log")
	if err != nil {
		return
	}
	for _, f := range files {
		name := "/log/" + f.Name()
		magic := make([]byte, 8)
		r, err := d.Open(name)
		if err != nil {
			continue
		}
		if _, err := r.ReadAt(magic, 0); err == nil && string(magic) == "WKPTSPAR" {
			_ = d.Remove(name)
		}
		_ = r.Close()
	}
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
			if p, err = l.Append(context.Background(), []byte(record)); err != nil {
				return err
			}
			c.begun = append(c.begun, record)
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

// many writes records from several goroutines, each of which waits for its own.
func (c *client) many(d disk.FS) (err error) {
	l, err := c.open(d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	one := make(chan struct{}, 1) // holds one while a record is appended, or c is changed
	over := make(chan error)
	write := func(n int) error {
		one <- struct{}{}
		record := fmt.Sprintf("%d of %d ", len(c.begun), n) + strings.Repeat("x", 300*n)
		p, err := l.Append(context.Background(), []byte(record))
		if err != nil {
			<-one
			return err
		}
		c.begun = append(c.begun, record)
		count := len(c.begun)
		<-one
		err = l.Wait(context.Background(), p)
		if err == nil {
			one <- struct{}{}
			c.acked = max(c.acked, count)
			<-one
		}
		return err
	}
	for n := range 4 {
		go func() {
			err := error(nil)
			for i := 0; i < 4 && err == nil; i++ {
				time.Sleep(time.Duration(n) * time.Millisecond)
				err = write(n)
			}
			over <- err
		}()
	}
	for range 4 {
		err = errors.Join(err, <-over)
	}
	return err
}

func (c *client) check(d disk.FS) error {
	l, err := c.open(d)
	if err != nil {
		return err
	}
	return l.Close()
}

// manner is how a log is tried.
type manner struct {
	fault error                 // what calls say that fail; nil: the power is cut
	many  bool                  // several write, and an fsync takes its time
	full  bool                  // the disk is full when the log is opened
	hook  func(disk.FS) disk.FS // nil: none
}

// suite is what is tried with a log.
func suite(t durabletest.TB, o durabletest.Options, m manner) durabletest.Report {
	o.Disk = func() *durabletest.Disk {
		d := durabletest.NewDisk()
		if m.many {
			d.SetDelay(2 * time.Millisecond)
		}
		if err := disk.MkdirAll(d, "/log"); err != nil {
			t.Errorf("%v", err)
		}
		return d
	}
	begin := func() durabletest.Test {
		c := &client{hook: m.hook, full: m.full}
		if m.many {
			return durabletest.Test{Run: c.many, Check: c.check}
		}
		return durabletest.Test{Run: c.run, Check: c.check}
	}
	if m.fault != nil {
		return durabletest.Fail(t, o, m.fault, begin)
	}
	return durabletest.Crash(t, o, begin)
}

// TestCrash cuts the power at each call, and again and again.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if r := suite(t, durabletest.Options{Seed: 1, Cuts: *cutsN}, manner{}); r.Of < 40 {
			t.Errorf("only %d calls", r.Of)
		}
	})
}

// TestCrashMany cuts it while several write, and an fsync takes its time.
func TestCrashMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		suite(t, durabletest.Options{Seed: 1, Cuts: *cutsN}, manner{many: true})
		suite(t, durabletest.Options{Seed: 1, Cuts: *cutsN}, manner{many: true, fault: syscall.EIO})
	})
}

// TestCrashFull cuts it where each open meets a full disk.
func TestCrashFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		suite(t, durabletest.Options{Seed: 1, Cuts: *cutsN}, manner{full: true})
		suite(t, durabletest.Options{Seed: 1, Cuts: *cutsN}, manner{full: true, fault: syscall.EIO})
	})
}

// TestFault lets each call fail.
func TestFault(t *testing.T) {
	for _, err := range []error{syscall.EIO, syscall.ENOSPC} {
		synctest.Test(t, func(t *testing.T) { suite(t, durabletest.Options{Seed: 1}, manner{fault: err}) })
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
		p, err := l.Append(context.Background(), record)
		if err != nil {
			t.Fatal(err)
		}
		c.begun = append(c.begun, string(record))
		synctest.Wait() // until there are enough segments
		d.CutAt(2)      // the fsync
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

// TestFullTail: on a full disk, too, what an open has found is durable when it
// returns, also what nobody was told of.
func TestFullTail(t *testing.T) {
	if why := fullTail(t, nil); why != "" {
		t.Error(why)
	}
}

// fullTail kills a program whose last record is not durable, opens its log on a
// full disk, and cuts the power. It returns what is wrong then.
func fullTail(t *testing.T, hook func(disk.FS) disk.FS) (why string) {
	synctest.Test(t, func(t *testing.T) {
		d, c := durabletest.NewDisk(), &client{hook: hook}
		first, err := (*redo.Log)(nil), errors.Join(disk.MkdirAll(d, "/log"), c.run(d))
		if err == nil {
			first, err = c.open(d)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		c.begun = append(c.begun, "the last one")
		p, err := first.Append(context.Background(), []byte("the last one"))
		if err != nil {
			t.Fatal(err)
		}
		d.Inject(durabletest.Fault{On: func(op durabletest.Op) bool { return op.Verb == "sync" }})
		if err := first.Wait(context.Background(), p); err == nil {
			t.Fatal("it was acknowledged")
		}
		d = d.Kill()
		fill(d)
		second, err := c.open(d)
		if err != nil {
			why = err.Error()
			return
		}
		defer second.Close()
		for keep := range durabletest.Survivors(8) {
			if err := c.check(d.Cut(keep)); err != nil {
				why = fmt.Sprintf("opened on a full disk, %v: %v", keep, err)
				return
			}
		}
	})
	return why
}
