package durable_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wakepoint/wakepoint/durable"
)

// item is a value of which the default codec makes CBOR.
type item struct {
	Name string   `cbor:"1,keyasint"`
	Size int      `cbor:"2,keyasint"`
	Tags []string `cbor:"3,keyasint,omitempty"`
}

// server is a database with the tables of a client. The third and the fourth
// table come when there are enough transactions.
type server struct {
	*durable.DB
	recovery *durable.Recovery
	heard    *ear
	tables   int
	counts   *durable.Table[string, int64]
	items    *durable.Table[int64, item]
	blobs    *durable.Table[string, []byte]
	times    *durable.Table[time.Time, string]
}

// The transactions from which on a table is used.
const (
	blobsFrom = 14
	timesFrom = 27
	manyFrom  = 200 // many keys: more than one leaf of the tree
)

// segments is the room of the log's files.
const segments = 16 << 10

func start(fs durable.FS, dir string, tables int) (*server, error) {
	s := &server{
		tables: tables,
		heard:  &ear{},
		counts: durable.NewTable[string, int64]("counts"),
		items:  durable.NewTable[int64, item]("items"),
		blobs:  durable.NewTable[string, []byte]("blobs"),
		times:  durable.NewTable[time.Time, string]("times"),
	}
	all := []durable.AnyTable{s.counts, s.items, s.blobs, s.times}
	o := durable.Options{Dir: dir, FS: fs, Logger: slog.New(s.heard), Clock: func() time.Time { return time.Unix(1, 0) }}.WithSegments(segments)
	if fs == nil {
		o = o.WithSegments(1 << 20)
	}
	var err error
	s.DB, s.recovery, err = durable.Open(context.Background(), o, all[:tables]...)
	return s, err
}

// ear hears whether there was something to complain about.
type ear struct{ complaints atomic.Int64 }

func (e *ear) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (e *ear) Handle(context.Context, slog.Record) error    { e.complaints.Add(1); return nil }
func (e *ear) WithAttrs([]slog.Attr) slog.Handler           { return e }
func (e *ear) WithGroup(string) slog.Handler                { return e }

// last is the number of the last transaction that is there.
const last = "last"

// change is what transaction n does to a table.
type change struct {
	table string
	key   int64
	value string // "": it is deleted
}

// script is transaction n: it spans several tables and is always the same.
func script(n int64) (all []change) {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for range 1 + r.IntN(5) {
		tables := 2
		if n >= blobsFrom {
			tables++
		}
		if n >= timesFrom {
			tables++
		}
		c := change{table: []string{"counts", "items", "blobs", "times"}[r.IntN(tables)], key: r.Int64N(24)}
		if n > manyFrom {
			c.key = r.Int64N(600)
		}
		if r.IntN(4) > 0 {
			c.value = fmt.Sprint(1 + r.Int64N(1e9))
		}
		all = append(all, c)
	}
	return all
}

// do does transaction n.
func (s *server) do(tx *durable.Tx, n int64) {
	s.counts.Put(tx, last, n)
	for _, c := range script(n) {
		var v int64
		_, _ = fmt.Sscan(c.value, &v)
		switch k := fmt.Sprint("k", c.key); {
		case c.table == "counts" && c.value == "":
			s.counts.Delete(tx, k)
		case c.table == "counts":
			s.counts.Put(tx, k, v)
		case c.table == "items" && c.value == "":
			s.items.Delete(tx, c.key)
		case c.table == "items":
			s.items.Put(tx, c.key, item{Name: c.value, Size: int(v % 100), Tags: slices.Repeat([]string{k}, int(v%7))})
		case c.table == "blobs" && c.value == "":
			s.blobs.Delete(tx, k)
		case c.table == "blobs":
			s.blobs.Put(tx, k, bytes.Repeat([]byte(c.value), int(v%100)))
		case c.value == "":
			s.times.Delete(tx, time.Unix(c.key, 0))
		default:
			s.times.Put(tx, time.Unix(c.key, 0), c.value)
		}
	}
}

// state is what all tables hold, as text.
type state map[string]string

// read reads all tables, in order, and each key for itself.
func (s *server) read(tx *durable.Tx) (state, error) {
	got := state{}
	add := func(table string, k, v any, same bool) error {
		id := fmt.Sprint(table, " ", k)
		if _, twice := got[id]; twice || !same {
			return fmt.Errorf("%s comes twice, or is not what Get says", id)
		}
		got[id] = fmt.Sprint(v)
		return nil
	}
	var err error
	for k, v := range s.counts.All(tx) {
		w, ok := s.counts.Get(tx, k)
		err = errors.Join(err, add("counts", k, v, ok && w == v))
	}
	for k, v := range s.items.All(tx) {
		w, ok := s.items.Get(tx, k)
		err = errors.Join(err, add("items", k, v, ok && fmt.Sprint(w) == fmt.Sprint(v)))
	}
	if s.tables > 2 {
		for k, v := range s.blobs.All(tx) {
			w, ok := s.blobs.Get(tx, k)
			err = errors.Join(err, add("blobs", k, string(v), ok && bytes.Equal(w, v)))
		}
	}
	if s.tables > 3 {
		for k, v := range s.times.All(tx) {
			w, ok := s.times.Get(tx, k)
			err = errors.Join(err, add("times", k.Unix(), v, ok && w == v))
		}
	}
	return got, err
}

// states are what transactions lead to, by their number.
type states struct {
	mu  sync.Mutex // guards all
	all []state
}

// after is the state after transaction n.
func (s *states) after(n int64) state {
	s.mu.Lock()
	defer s.mu.Unlock()
	for int64(len(s.all)) <= n {
		next := state{}
		if i := len(s.all); i > 0 {
			next = maps.Clone(s.all[i-1])
			next.change(int64(i))
		}
		s.all = append(s.all, next)
	}
	return s.all[n]
}

// change does transaction n.
func (s state) change(n int64) {
	s["counts "+last] = fmt.Sprint(n)
	for _, c := range script(n) {
		var v int64
		_, _ = fmt.Sscan(c.value, &v)
		k := fmt.Sprint("k", c.key)
		id := fmt.Sprint(c.table, " ", k)
		value := c.value
		switch c.table {
		case "items":
			id = fmt.Sprint(c.table, " ", c.key)
			value = fmt.Sprint(item{Name: c.value, Size: int(v % 100), Tags: slices.Repeat([]string{k}, int(v%7))})
		case "blobs":
			value = string(bytes.Repeat([]byte(c.value), int(v%100)))
		case "times":
			id = fmt.Sprint(c.table, " ", c.key)
		}
		if delete(s, id); c.value != "" {
			s[id] = value
		}
	}
}

// same says how a state differs from that after transaction n.
func (s *states) same(n int64, got state) error {
	if n < 0 {
		return fmt.Errorf("the last transaction is %d", n)
	}
	return differ(n, s.after(n), got)
}

// differ says how a state differs from that after transaction n.
func differ(n int64, want, got state) error {
	if maps.Equal(want, got) {
		return nil
	}
	for id := range want {
		if got[id] != want[id] {
			return fmt.Errorf("after transaction %d: %s is %.60q, not %.60q", n, id, got[id], want[id])
		}
	}
	return fmt.Errorf("after transaction %d: %d keys, not %d", n, len(got), len(want))
}

// whole reads everything in one view, which must be what some transaction has
// led to, and returns its number.
func (s *server) whole(all *states) (n int64, err error) {
	var got state
	err = s.View(context.Background(), func(tx *durable.Tx) (err error) {
		n, _ = s.counts.Get(tx, last)
		got, err = s.read(tx)
		return err
	})
	if err == nil {
		err = all.same(n, got)
	}
	return n, err
}
