package durable

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// onDisk opens a database of one table on a disk in memory.
func onDisk(t *testing.T, d FS) (*DB, *Table[string, string]) {
	t.Helper()
	table := NewTable[string, string]("t")
	db, _, err := Open(ctx, Options{Dir: "/db", FS: d, segment: 1 << 18}, table)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db, table
}

// put is a closure that sets one key.
func put(table *Table[string, string], k, v string) func(*Tx) error {
	return func(tx *Tx) error {
		table.Put(tx, k, v)
		return nil
	}
}

// value is that of a key, and "-" if there is none.
func value(t *testing.T, db *DB, table *Table[string, string], k string) (v string) {
	t.Helper()
	must(t, db.View(ctx, func(tx *Tx) error {
		var found bool
		if v, found = table.Get(tx, k); !found {
			v = "-"
		}
		return nil
	}))
	return v
}

// TestUnwound: a closure that fails, panics or ends its goroutine leaves nothing,
// and nobody has to wait for it.
func TestUnwound(t *testing.T) {
	d := crashfs.New()
	db, table := onDisk(t, d)
	must(t, db.Update(ctx, put(table, "k", "before")))
	change := func(tx *Tx) {
		table.Put(tx, "k", "after")
		table.Put(tx, "new", "after")
	}
	for name, end := range map[string]func(tx *Tx) error{
		"error":  func(*Tx) error { return errBoom },
		"panic":  func(*Tx) error { panic(errBoom) },
		"nil":    func(*Tx) error { panic(nil) },
		"Goexit": func(*Tx) error { runtime.Goexit(); return nil },
		"swallowed": func(tx *Tx) error { // what unwinds it is no business of the closure
			defer func() { _ = recover() }()
			table.Put(tx, strings.Repeat("k", KeyMax+1), "")
			return nil
		},
		"goes on": func(tx *Tx) error {
			func() {
				defer func() { _ = recover() }()
				table.Put(tx, strings.Repeat("k", KeyMax+1), "")
			}()
			table.Put(tx, "other", "after")
			t.Error("the closure goes on")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, call := range []func(func(*Tx) error) error{
				func(f func(*Tx) error) error { return db.Update(ctx, func(tx *Tx) error { change(tx); return f(tx) }) },
				func(f func(*Tx) error) error { return db.View(ctx, f) },
			} {
				returned, over := error(nil), make(chan any)
				go func() {
					var p any = "Goexit"
					defer func() {
						if r := recover(); r != nil {
							p = r
						}
						over <- p
					}()
					returned = call(end)
					p = nil
				}()
				if p := <-over; !endedAs(name, p, returned) {
					t.Errorf("%v, %v", p, returned)
				}
			}
			must(t, db.Update(ctx, func(*Tx) error { return nil })) // it has the turn
			for k, want := range map[string]string{"k": "before", "new": "-", "other": "-"} {
				if v := value(t, db, table, k); v != want {
					t.Errorf("%s is %q", k, v)
				}
			}
		})
	}
	must(t, db.Close())
	db, table = onDisk(t, d)
	if value(t, db, table, "k") != "before" || value(t, db, table, "new") != "-" {
		t.Error("something is there after a start")
	}
}

// endedAs says whether a closure ended as it should, by what came of it: a panic
// ("Goexit": none, but it did not return), or an error.
func endedAs(how string, p any, err error) bool {
	switch how {
	case "error":
		return p == nil && err == errBoom
	case "panic":
		return p == errBoom
	case "nil":
		_, ok := p.(*runtime.PanicNilError)
		return ok
	case "Goexit":
		return p == "Goexit"
	}
	return p == nil && (errors.Is(err, ErrTooLarge) || errors.Is(err, ErrReadOnly))
}

// TestReadOnlyTx: a view changes nothing, whatever it tries.
func TestReadOnlyTx(t *testing.T) {
	db, table := onDisk(t, crashfs.New())
	for name, f := range map[string]func(tx *Tx){
		"Put":    func(tx *Tx) { table.Put(tx, "k", "v") },
		"Delete": func(tx *Tx) { table.Delete(tx, "k") },
	} {
		err := db.View(ctx, func(tx *Tx) error {
			f(tx)
			t.Errorf("%s: the closure goes on", name)
			return nil
		})
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v := value(t, db, table, "k"); v != "-" {
		t.Errorf("%q is there", v)
	}
}

// TestEnded: a transaction that is used after its closure panics, and so does what
// came of it.
func TestEnded(t *testing.T) {
	db, table := onDisk(t, crashfs.New())
	must(t, db.Update(ctx, func(tx *Tx) error {
		for i := range 100 {
			table.Put(tx, fmt.Sprintf("key%03d", i), "v")
		}
		return nil
	}))
	for name, call := range map[string]func(context.Context, func(*Tx) error) error{"Update": db.Update, "View": db.View} {
		var kept *Tx
		var seq iter.Seq2[string, string]
		var next func() (string, string, bool)
		var stop func()
		must(t, call(ctx, func(tx *Tx) error {
			kept, seq = tx, table.All(tx)
			next, stop = iter.Pull2(seq)
			if k, _, ok := next(); !ok || k != "key000" {
				t.Errorf("%s: the first key is %q, %v", name, k, ok)
			}
			return nil
		}))
		defer stop()
		for what, f := range map[string]func(){
			"Get":    func() { table.Get(kept, "k") },
			"Put":    func() { table.Put(kept, "k", "v") },
			"Delete": func() { table.Delete(kept, "k") },
			"All":    func() { table.All(kept) },
			"Range":  func() { table.Range(kept, "a", "b") },
			"range":  func() { seq(func(string, string) bool { return false }) },
			"next":   func() { next() },
		} {
			if p := panics(f); p == nil || !strings.Contains(fmt.Sprint(p), "after its closure") {
				t.Errorf("%s, %s: %v", name, what, p)
			}
		}
	}
	if v := value(t, db, table, "k"); v != "-" {
		t.Errorf("%q is there", v)
	}
}

func panics(f func()) (p any) {
	defer func() { p = recover() }()
	f()
	return nil
}

// TestNested: an Update in a closure of Update would wait for itself: it is told
// so after a second, and what it is in goes on. A View may stand there.
func TestNested(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, table := onDisk(t, crashfs.New())
		began := time.Now()
		must(t, db.Update(ctx, func(tx *Tx) error {
			table.Put(tx, "outer", "1")
			if err := db.Update(ctx, put(table, "inner", "1")); !errors.Is(err, ErrNested) {
				t.Errorf("%v", err)
			}
			if took := time.Since(began); took != nestedAfter {
				t.Errorf("after %v", took)
			}
			return db.View(ctx, func(*Tx) error {
				if err := db.Update(ctx, put(table, "inner", "1")); !errors.Is(err, ErrNested) {
					t.Errorf("in a View in it: %v", err)
				}
				return nil
			})
		}))
		must(t, db.View(ctx, func(*Tx) error { return db.Update(ctx, put(table, "beside", "1")) }))
		for k, want := range map[string]string{"outer": "1", "inner": "-", "beside": "1"} {
			if v := value(t, db, table, k); v != want {
				t.Errorf("%s is %q", k, v)
			}
		}
		// Who waits long for somebody else is not nested.
		go func() { _ = db.Update(ctx, func(*Tx) error { time.Sleep(time.Minute); return nil }) }()
		synctest.Wait()
		must(t, db.Update(ctx, put(table, "late", "1")))
		must(t, db.Close())
	})
}

// counted is a context that ends when it was asked so often.
type counted struct {
	context.Context
	end  context.CancelFunc
	left *atomic.Int64
}

func endsAfter(n int) counted {
	c, end := context.WithCancel(ctx)
	left := new(atomic.Int64)
	left.Store(int64(n))
	return counted{c, end, left}
}

func (c counted) asked() {
	if c.left.Add(-1) == 0 {
		c.end()
	}
}

func (c counted) Err() error            { c.asked(); return c.Context.Err() }
func (c counted) Done() <-chan struct{} { c.asked(); return c.Context.Done() }

// TestCancelled: whenever a context ends, a transaction says whether it was done,
// or that nobody knows; what was said is true, now and after a start.
func TestCancelled(t *testing.T) {
	d := crashfs.New()
	db, table := onDisk(t, d)
	want, cancelled := model{}, 0
	for n := 0; ; n++ {
		c, k := endsAfter(n), fmt.Sprint(n)
		ran := false
		err := db.Update(c, func(tx *Tx) error {
			ran = true
			table.Put(tx, k, "v")
			return nil
		})
		verr := db.View(endsAfter(n), func(tx *Tx) error { return nil })
		_ = db.Checkpoint(endsAfter(n))
		switch {
		case err == nil:
			want[k] = "v"
		case errors.Is(err, context.Canceled) && errors.Is(err, ErrUnknown) && ran:
			want[k] = "v" // until a crash
		case errors.Is(err, context.Canceled):
			cancelled++
		default:
			t.Fatalf("%d: %v", n, err)
		}
		if verr != nil && !errors.Is(verr, context.Canceled) {
			t.Fatalf("%d: View: %v", n, verr)
		}
		same(t, db, table, want)
		if n > 0 && err == nil && verr == nil && c.left.Load() > 0 {
			break
		}
	}
	if cancelled == 0 {
		t.Error("none was cancelled")
	}
	must(t, db.Close())
	db, table = onDisk(t, d)
	same(t, db, table, want)
}

// TestCancelledWaiting: who waits for its turn, or for the disk, can stop that. In
// the first case nothing was done, in the second nobody knows.
func TestCancelledWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Bool
		d := disk.Watch(crashfs.New(), func(op disk.Op) disk.Verdict {
			if slow.Load() && op.Verb == "sync" {
				time.Sleep(time.Minute)
			}
			return disk.Do
		})
		db, table := onDisk(t, d)
		time.Sleep(time.Second)
		slow.Store(true)
		first := make(chan error)
		go func() { first <- db.Update(ctx, put(table, "first", "v")) }()
		synctest.Wait() // it waits for the disk
		c, end := context.WithTimeout(ctx, time.Second)
		defer end()
		if err := db.Update(c, put(table, "second", "v")); !errors.Is(err, ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an Update that waits for the disk: %v", err)
		}
		c, end = context.WithTimeout(ctx, time.Second)
		defer end()
		err := db.View(c, func(tx *Tx) error {
			if v, _ := table.Get(tx, "second"); v != "v" {
				t.Errorf("second is %q", v)
			}
			return nil
		})
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnknown) {
			t.Errorf("a View that saw what is not durable: %v", err)
		}
		c, end = context.WithTimeout(ctx, time.Second)
		defer end()
		if err := db.Update(c, func(*Tx) error { return errBoom }); !errors.Is(err, errBoom) || errors.Is(err, ErrUnknown) {
			t.Errorf("an Update that changed nothing: %v", err)
		}
		must(t, <-first)
		slow.Store(false)

		go func() { _ = db.Update(ctx, func(*Tx) error { time.Sleep(time.Minute); return nil }) }()
		synctest.Wait() // it has the turn
		c, end = context.WithTimeout(ctx, time.Second)
		defer end()
		if err := db.Update(c, put(table, "third", "v")); err != context.DeadlineExceeded {
			t.Errorf("an Update that waits for its turn: %v", err)
		}
		for k, want := range map[string]string{"first": "v", "second": "v", "third": "-"} {
			if v := value(t, db, table, k); v != want {
				t.Errorf("%s is %q", k, v)
			}
		}
		must(t, db.Close())
	})
}

// TestClosed: nothing works on a database that was closed, and Close waits for
// what runs.
func TestClosed(t *testing.T) {
	if said := ErrClosed.Error(); said != "durable: closed" {
		t.Error(said)
	}
	db, table := onDisk(t, crashfs.New())
	in, out := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		done <- db.Update(ctx, func(tx *Tx) error {
			close(in)
			<-out
			table.Put(tx, "k", "v")
			return nil
		})
	}()
	<-in
	closed := make(chan error)
	go func() { closed <- db.Close() }()
	for db.View(ctx, func(*Tx) error { return nil }) == nil {
		runtime.Gosched()
	}
	close(out)
	must(t, <-done)
	must(t, <-closed)
	nothing := func(*Tx) error { t.Error("a closure runs"); return nil }
	for name, err := range map[string]error{
		"Update": db.Update(ctx, nothing), "View": db.View(ctx, nothing), "Checkpoint": db.Checkpoint(ctx), "Load": db.Load(ctx),
		"Verify": db.Verify(ctx), "Backup": db.Backup(ctx, nil), "Close": db.Close(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// idle is a codec that forgets to add to what it is given.
type idle struct{}

func (idle) Name() string                              { return "idle" }
func (idle) Append(_ []byte, s string) ([]byte, error) { return []byte(s), nil }
func (idle) Decode(b []byte) (string, error)           { return string(b), nil }

// over is one that writes over what it is given.
type over struct{ idle }

func (over) Append(dst []byte, s string) ([]byte, error) { return append(dst[:0], s...), nil }

// TestCodecThatDrops: a codec that does not keep what it is given is noticed, and
// nothing is written.
func TestCodecThatDrops(t *testing.T) {
	dir := t.TempDir()
	tables := []*Table[string, string]{
		NewTable("idle values", WithValues[string](Codec[string](idle{}))), NewTable("over values", WithValues[string](Codec[string](over{}))),
		NewTable("idle keys", WithKeys[string, string](idle{})), NewTable("over keys", WithKeys[string, string](over{})),
	}
	whole := NewTable[string, string]("whole")
	db, _, err := Open(ctx, Options{Dir: dir, segment: 1 << 18}, whole, tables[0], tables[1], tables[2], tables[3])
	must(t, err)
	defer db.Close()
	must(t, db.Update(ctx, func(tx *Tx) error { whole.Put(tx, "key", "value"); return nil }))
	for _, table := range tables {
		for _, v := range []string{"", "v", "a value that is longer than what was there before it"} {
			for n := range 2 {
				err := db.Update(ctx, func(tx *Tx) error {
					for range n {
						whole.Put(tx, "key", "changed")
					}
					table.Put(tx, "key of "+v, v)
					return nil
				})
				if !errors.Is(err, errAppend) {
					t.Errorf("%s: %v", table.name, err)
				}
			}
		}
	}
	must(t, db.View(ctx, func(tx *Tx) error {
		for k, v := range whole.All(tx) {
			if k != "key" || v != "value" {
				t.Errorf("%q is %q", k, v)
			}
		}
		return nil
	}))
}
