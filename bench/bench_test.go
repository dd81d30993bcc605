package main

import (
	"bytes"
	"os"
	"testing"
	"time"
)

// TestMain lets the test be its own child, as the command is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childName {
		exit(runChild(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// TestEngines: each engine keeps what it was given, over a checkpoint and an
// opening, so that what is measured is the same work.
func TestEngines(t *testing.T) {
	s := newState(500, 200)
	for _, m := range makers() {
		t.Run(m.name, func(t *testing.T) {
			needEngine(t, m.name)
			dir := t.TempDir()
			e, err := m.open(dir, 8)
			if err != nil {
				t.Fatal(err)
			}
			steps := []func() error{
				func() error { return e.Load(s.pairs(1)) },
				e.Checkpoint,
				func() error { return putMany(e, s, 200) },
				func() error { return e.Put(s.keyOf(s.keys), s.valueOf(s.keys)) },
				e.Close,
				func() (err error) { e, err = m.open(dir, 1); return err },
				func() error { return e.Put(s.keyOf(s.keys+1), s.valueOf(s.keys+1)) },
			}
			for i, step := range steps {
				if err := step(); err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
			}
			for _, i := range []int{0, 250, 499, 500, 501} {
				if v, err := e.Get(s.keyOf(i)); err != nil || !bytes.Equal(v, s.valueOf(i)) {
					t.Errorf("%s: %d bytes, %v", s.keyOf(i), len(v), err)
				}
			}
			if n, err := e.Scan(); err != nil || n != 502 {
				t.Errorf("%d keys, want 502; %v", n, err)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestChildren: what is measured in processes of their own runs through, with
// crashes, for ours and one that has a server.
func TestChildren(t *testing.T) {
	for _, name := range []string{ours, "redis"} {
		t.Run(name, func(t *testing.T) {
			needEngine(t, name)
			c := config{dir: t.TempDir(), only: name, rounds: 1, keys: 2000, value: 200, warm: true, budget: 100 * time.Millisecond, calm: 100 * time.Millisecond}
			if err := runRecovery(c); err != nil {
				t.Error(err)
			}
			if err := runCheckpoint(c); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBudget(t *testing.T) {
	if err := runBudget(config{dir: t.TempDir(), keys: 2000, value: 200, kills: 2, warm: true, budget: 2 * time.Second}); err != nil {
		t.Error(err)
	}
}

func needEngine(t *testing.T, name string) {
	if err := redisMissing(); name == "redis" && err != nil {
		t.Skip(err)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		list []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := median(c.list); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.list, got, c.want)
		}
	}
}
