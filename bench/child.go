package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// childName is the argument by which the program knows that it is a child of
// itself: memory is measured, and starts are cold, in a process of its own.
const childName = "child"

// task is what a child does, in JSON as its only argument.
type task struct {
	Do      string
	Engine  string
	Dir     string
	Keys    int
	Value   int
	Log     int           // records
	Begun   int64         // when the child was started, in nanoseconds since 1970
	Calm    time.Duration // that a writer is watched without a checkpoint
	Budget  time.Duration // RecoveryBudget
	Profile string
}

// result is a line of JSON that a child prints.
type result map[string]float64

// doings are what a child can be asked for. It prints what the function
// returns; one that dies kills itself and the engine then, as a crash does.
var doings = map[string]struct {
	run  func(task, maker) (engine, result, error)
	dies bool
}{
	"fill":       {fill, false},
	"log":        {logRecords, true},
	"full":       {logFull, true},
	"recover":    {recoverState, true},
	"checkpoint": {checkpointState, false},
	"steady":     {steady, false},
	"serve":      {serveSessions, true},
	"clients":    {keepClients, true},
}

func (c config) task(do, engine, dir string) task {
	return task{Do: do, Engine: engine, Dir: dir, Keys: c.keys, Value: c.value, Calm: c.calm, Budget: c.budget, Profile: c.profile}
}

// start starts a child, whose results are read from the pipe.
func (t task) start() (*exec.Cmd, io.Reader, *bytes.Buffer, error) {
	t.Begun = time.Now().UnixNano()
	arg, err := json.Marshal(t)
	if err != nil {
		return nil, nil, nil, err
	}
	cmd := exec.Command("/proc/self/exe", childName, string(arg))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	said := &bytes.Buffer{}
	cmd.Stderr = said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	return cmd, out, said, err
}

// do lets a child do it and returns what it prints.
func (t task) do() (result, error) {
	cmd, out, said, err := t.start()
	if err != nil {
		return nil, err
	}
	r := result{}
	err = json.NewDecoder(out).Decode(&r)
	_, _ = io.Copy(io.Discard, out) // until it has ended
	werr := cmd.Wait()
	var ended *exec.ExitError
	if errors.As(werr, &ended) && doings[t.Do].dies && ended.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		werr = nil
	}
	if err != nil || werr != nil {
		return nil, fmt.Errorf("%s of %s: %w\n%s", t.Do, t.Engine, errors.Join(err, werr), bytes.TrimSpace(said.Bytes()))
	}
	return r, nil
}

// runChild is the child's main.
func runChild(args []string) error {
	var t task
	if len(args) != 1 {
		return errors.New("a child has one argument")
	}
	if err := json.Unmarshal([]byte(args[0]), &t); err != nil {
		return err
	}
	m, err := find(t.Engine)
	if err != nil {
		return err
	}
	if m.name == ours {
		m.open = budgeted(t.Budget)
	}
	d, ok := doings[t.Do]
	if !ok {
		return fmt.Errorf("nothing is called %q", t.Do)
	}
	e, r, err := d.run(t, m)
	if err != nil {
		return err
	}
	if err := r.print(); err != nil {
		return err
	}
	if !d.dies {
		return e.Close()
	}
	if s, ok := e.(served); ok {
		if err := s.Kill(); err != nil {
			return err
		}
	}
	return syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

func (r result) print() error {
	w := bufio.NewWriter(os.Stdout)
	if err := json.NewEncoder(w).Encode(r); err != nil {
		return err
	}
	return w.Flush()
}

// parallel is how many writers put what is only to be there.
const parallel = 64

// fill loads a state.
func fill(t task, m maker) (engine, result, error) {
	e, err := m.open(t.Dir, parallel)
	if err == nil {
		err = e.Load(newState(t.Keys, t.Value).pairs(1))
	}
	if err == nil {
		err = e.Checkpoint()
	}
	return e, result{"bytes": float64(sizeOf(t.Dir))}, err
}

// logRecords commits so many records, which are in no checkpoint then.
func logRecords(t task, m maker) (engine, result, error) {
	e, err := m.open(t.Dir, parallel)
	if err == nil && m.name == ours {
		err = e.Checkpoint()
	}
	if err != nil {
		return nil, nil, err
	}
	return e, result{}, putMany(e, newState(t.Keys, t.Value), t.Log)
}

func putMany(e putter, s state, n int) error {
	var wg sync.WaitGroup
	errs := make([]error, parallel)
	for w := range parallel {
		wg.Go(func() {
			for i := w; i < n && errs[w] == nil; i += parallel {
				errs[w] = putAny(e, s)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// putAny commits one of the keys.
func putAny(e putter, s state) error {
	i := rand.IntN(s.keys)
	return e.Put(s.keyOf(i), s.valueOf(i))
}

// recoverState opens, asks for one key, and then waits until all is in memory.
func recoverState(t task, m maker) (engine, result, error) {
	stop, err := config{profile: t.Profile}.startProfile(m.name, "recover")
	if err != nil {
		return nil, nil, err
	}
	defer stop()
	s := newState(t.Keys, t.Value)
	begun := time.Now()
	e, first, err := openAndAsk(t, m, s)
	if err != nil {
		return nil, nil, err
	}
	process := time.Since(time.Unix(0, t.Begun))
	n, isLazy := 0, false
	if l, ok := e.(lazy); ok {
		isLazy, err = true, l.Wait()
	} else {
		n, err = e.Scan()
	}
	all := time.Since(begun)
	if err != nil {
		return nil, nil, err
	}
	most, err := peak(pidOf(e))
	if isLazy && err == nil {
		n, err = e.Scan()
	}
	if err == nil && n != t.Keys {
		err = fmt.Errorf("%d keys of %d are there", n, t.Keys)
	}
	r := result{"first": first.Seconds(), "process": process.Seconds(), "all": all.Seconds(), "peak": float64(most)}
	if d, ok := e.(*durableEngine); ok {
		r["records"], r["open"] = float64(d.found.Replayed), d.found.Took.Seconds()
	}
	return e, r, err
}

// openAndAsk says how long it took from before the opening to the first reply,
// which must be the right one.
func openAndAsk(t task, m maker, s state) (engine, time.Duration, error) {
	key := rand.IntN(s.keys)
	begun := time.Now()
	e, err := m.open(t.Dir, parallel)
	if err != nil {
		return nil, 0, err
	}
	v, err := e.Get(s.keyOf(key))
	took := time.Since(begun)
	if err == nil && !bytes.Equal(v, s.valueOf(key)) {
		err = fmt.Errorf("%s has another value", s.keyOf(key))
	}
	return e, took, err
}
