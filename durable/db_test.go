package durable

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// model is what a database should hold.
type model map[string]string

// all is what a table holds, and checks that it comes in order.
func all(t interface{ Fatalf(string, ...any) }, tx *Tx, table *Table[string, string]) model {
	got, last := model{}, ""
	for k, v := range table.All(tx) {
		if len(got) > 0 && k <= last {
			t.Fatalf("%q comes after %q", k, last)
		}
		got[k], last = v, k
	}
	return got
}

// machine is a database and what it should hold.
type machine struct {
	fs    FS
	db    *DB
	table *Table[string, string]
	want  model
}

var errBoom = errors.New("boom")

func (m *machine) open(t *rapid.T) {
	m.table = NewTable[string, string]("t")
	var err error
	if m.db, _, err = Open(context.Background(), Options{Dir: "/db", FS: m.fs, segment: 1 << 16}, m.table); err != nil {
		t.Fatalf("open: %v", err)
	}
}

func (m *machine) reopen(t *rapid.T) {
	if err := m.db.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	m.open(t)
}

func (m *machine) checkpoint(t *rapid.T) {
	if err := m.db.Checkpoint(context.Background()); err != nil {
		t.Fatalf("checkpoint: %v", err)
	}
}

func drawKey(t *rapid.T) string { return fmt.Sprintf("key%03d", rapid.IntRange(0, 300).Draw(t, "key")) }

func drawValue(t *rapid.T) string {
	n := rapid.IntRange(0, 999).Draw(t, "value")
	return strings.Repeat(fmt.Sprint(n), []int{0, 1, 10, 1500}[n%4])
}

// update makes changes, of which one transaction in ten takes all back.
func (m *machine) update(t *rapid.T) {
	next := maps.Clone(m.want)
	fail := rapid.IntRange(0, 9).Draw(t, "fail") == 0
	err := m.db.Update(context.Background(), func(tx *Tx) error {
		for range rapid.IntRange(1, 40).Draw(t, "changes") {
			k := drawKey(t)
			if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
				m.table.Delete(tx, k)
				delete(next, k)
				continue
			}
			v := drawValue(t)
			m.table.Put(tx, k, v)
			next[k] = v
		}
		if got := all(t, tx, m.table); !maps.Equal(got, next) {
			t.Fatalf("inside: %d keys, not %d", len(got), len(next))
		}
		if fail {
			return errBoom
		}
		return nil
	})
	if fail != (err == errBoom) {
		t.Fatalf("update: %v", err)
	}
	if !fail {
		m.want = next
	}
}

func (m *machine) check(t *rapid.T) {
	err := m.db.View(context.Background(), func(tx *Tx) error {
		if got := all(t, tx, m.table); !maps.Equal(got, m.want) {
			t.Fatalf("%d keys, not %d", len(got), len(m.want))
		}
		k := drawKey(t)
		v, found := m.table.Get(tx, k)
		if w, ok := m.want[k]; ok != found || v != w {
			t.Fatalf("%q is %q, %v", k, v, found)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("view: %v", err)
	}
}

// TestModel: whatever transactions do, and whenever checkpoints are made, or the
// database is closed and opened, it holds what a map does.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &machine{fs: crashfs.New(), want: model{}}
		m.open(rt)
		defer func() { m.db.Close() }()
		rt.Repeat(map[string]func(*rapid.T){"update": m.update, "checkpoint": m.checkpoint, "reopen": m.reopen, "": m.check})
	})
}
