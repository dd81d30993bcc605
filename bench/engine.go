package main

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// putter is what a commit is measured of.
type putter interface {
	// Put returns when the value is durable. It may be called by many at once.
	Put(key string, value []byte) error
	Close() error
}

// engine is an open database.
type engine interface {
	putter
	Get(key string) ([]byte, error)
	// Load puts many at once, and returns when all are durable.
	Load(pairs iter.Seq2[string, []byte]) error
	// Scan returns when everything is in memory, or was read once where it is not
	// kept there, and says how many keys there are.
	Scan() (int, error)
	// Checkpoint does what shortens the next start, or where nothing does that,
	// writes a whole copy while others go on.
	Checkpoint() error
}

// lazy is an engine that answers before all is in memory.
type lazy interface {
	// Wait returns when it is.
	Wait() error
}

// served is an engine in a process of its own.
type served interface {
	// PID is the process that holds the memory.
	PID() int
	// Kill ends it without a warning.
	Kill() error
}

// maker opens one kind of engine.
type maker struct {
	name string
	// open opens what lies in a directory, or makes it, for so many writers.
	open func(dir string, writers int) (engine, error)
}

// the one that is compared; all others are rivals.
const ours = "durable"

// makers lists the engines: whole ones that answer after fsync.
func makers() []maker {
	return []maker{
		{ours, openDurable},
		{"raft", openRaft},
		{"pebble", openPebble},
		{"redis", openRedis},
		{"bbolt", openBolt},
		{"badger", openBadger},
		{"sqlite", openSQLite},
	}
}

// choose returns the engines of a list of names, all if it is empty, less
// those that this machine does not have, which is said.
func choose(names string) ([]maker, error) {
	all := makers()
	if names != "" {
		var some []maker
		for name := range strings.SplitSeq(names, ",") {
			i := slices.IndexFunc(all, func(m maker) bool { return m.name == name })
			if i < 0 {
				return nil, fmt.Errorf("no engine %q", name)
			}
			some = append(some, all[i])
		}
		all = some
	}
	if err := redisMissing(); err != nil {
		all = slices.DeleteFunc(all, func(m maker) bool {
			if m.name == "redis" {
				fmt.Fprintln(os.Stderr, "bench: redis is left out:", err)
			}
			return m.name == "redis"
		})
	}
	return all, nil
}

// find returns one engine by name.
func find(name string) (maker, error) {
	list, err := choose(name)
	if err != nil || len(list) == 0 {
		return maker{}, fmt.Errorf("engine %q cannot be had here: %w", name, err)
	}
	return list[0], nil
}

// state is what the engines hold: key i has a value that follows from i.
type state struct {
	keys  int
	value int // bytes of one
	noise []byte
}

// keyBytes is the length of every key.
const keyBytes = 14

func newState(keys, value int) state {
	s := state{keys: keys, value: value, noise: make([]byte, 1<<20)}
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(s.noise) // never fails
	return s
}

// bytes is the size of keys and values.
func (s state) bytes() int64 { return int64(s.keys) * int64(keyBytes+s.value) }

func (s state) keyOf(i int) string { return fmt.Sprintf("key-%010d", i) }

func (s state) valueOf(i int) []byte {
	at := (i * 7919) % (len(s.noise) - s.value)
	return s.noise[at : at+s.value]
}

// pairs yields every step-th key.
func (s state) pairs(step int) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for i := 0; i < s.keys; i += step {
			if !yield(s.keyOf(i), s.valueOf(i)) {
				return
			}
		}
	}
}

// batches cuts pairs into lists of at most n, whose memory is used again.
func batches(pairs iter.Seq2[string, []byte], n int) iter.Seq[[]pair] {
	return func(yield func([]pair) bool) {
		list := make([]pair, 0, n)
		for k, v := range pairs {
			if list = append(list, pair{k, v}); len(list) == n {
				if !yield(list) {
					return
				}
				list = list[:0]
			}
		}
		if len(list) > 0 {
			yield(list)
		}
	}
}

type pair struct {
	key   string
	value []byte
}

// sizeOf adds up the files below a directory.
func sizeOf(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if fi, err := d.Info(); err == nil {
				n += fi.Size()
			}
		}
		return nil
	})
	return n
}
