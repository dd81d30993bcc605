package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The zoo: small C programs (testdata/zoo), each with one kind of thing that a
// process can have, which check themselves in every round and print "ok N" or
// "BAD: what". Each is checkpointed, killed and restored again and again and
// must see nothing of it.

// animal is one program of the zoo.
type animal struct {
	name        string        // its argument
	checkpoints int           // of a cycle; 0: 2
	gap         time.Duration // between checkpoints; 0: a round
	first       time.Duration // before the first of a cycle
	args        []string
	before      func(t *testing.T) // skips where the machine cannot
	refused     string             // what the refusal says; empty: it must be saved
}

// zooCycles is how often each animal is killed and restored.
func zooCycles() int {
	if n, err := strconv.Atoi(os.Getenv("WAKEPOINT_CYCLES")); err == nil {
		return n
	}
	return 5
}

// zooAtOnce is how many animals live at the same time: they mostly sleep.
const zooAtOnce = 6

// zoo lets the animals of one source file live.
func zoo(t *testing.T, source string, animals []animal) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("the zoo needs root")
	}
	program := build(t, source)
	var wait sync.WaitGroup
	places := make(chan bool, zooAtOnce)
	for _, a := range animals {
		places <- true
		wait.Add(1)
		go func() {
			defer func() { <-places; wait.Done() }()
			t.Run(a.name, func(t *testing.T) {
				if a.before != nil {
					a.before(t)
				}
				z := &cage{t: t, animal: a, program: program, dir: t.TempDir()}
				if a.refused != "" {
					z.refused()
					return
				}
				z.live()
			})
		}()
	}
	wait.Wait()
}

// build compiles a source file of the zoo.
func build(t *testing.T, source string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("gcc is not installed")
	}
	out := filepath.Join(t.TempDir(), source)
	cmd := exec.Command(gcc, "-O1", "-g", "-Wall", "-Wno-unused-result", "-Wno-return-type", "-pthread", "-o", out, "testdata/zoo/"+source+".c", "-lrt")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("gcc %s: %v\n%s", source, err, b)
	}
	return out
}

// cage is where one animal lives.
type cage struct {
	t       *testing.T
	animal  animal
	program string
	dir     string
	out     *os.File
	record  *os.File
	tree    *Tree
	closed  bool
	store   *memStore
	files   map[string][]byte // contents of the files that belong to the store
	mark    int64             // of the output: what came before the last restore
}

func (z *cage) start() {
	z.t.Helper()
	var err error
	if err = os.Chmod(z.dir, 0o777); err != nil {
		z.t.Fatal(err)
	}
	if z.out, err = os.OpenFile(z.dir+"/out", os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o666); err != nil {
		z.t.Fatal(err)
	}
	if z.record, err = os.Create(z.dir + "/record"); err != nil {
		z.t.Fatal(err)
	}
	argv := append([]string{z.program, z.animal.name}, z.animal.args...)
	z.tree, err = Start(context.Background(), StartOptions{Argv: argv, Env: os.Environ(), Dir: z.dir,
		Stdout: z.out, Stderr: z.out, Record: z.record})
	if err != nil {
		z.t.Fatal(err)
	}
	z.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if !z.closed {
			if err := z.tree.Kill(ctx); err != nil {
				z.t.Errorf("kill: %v", err)
			}
			_ = z.tree.Close()
		}
		_ = z.out.Close()
		_ = z.record.Close()
	})
}

// live is the life of an animal that can be saved.
func (z *cage) live() {
	z.start()
	z.rounds(2)
	for range zooCycles() {
		time.Sleep(z.animal.first)
		z.store = nil
		for range max(z.animal.checkpoints, 2) {
			z.checkpoint()
			if z.animal.gap > 0 {
				time.Sleep(z.animal.gap)
			} else {
				z.rounds(1)
			}
		}
		z.restore()
		z.rounds(2)
	}
}

// refused is the life of one that cannot: it is refused by name and goes on.
func (z *cage) refused() {
	z.start()
	for range 3 {
		z.rounds(2)
		f, err := z.tree.Freeze(context.Background())
		if err == nil {
			_ = f.Thaw()
			z.t.Fatal("it was not refused")
		}
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), z.animal.refused) {
			z.t.Fatalf("refused with %v", err)
		}
	}
	z.rounds(2)
}

func (z *cage) checkpoint() {
	z.t.Helper()
	ctx := context.Background()
	f, err := z.tree.Freeze(ctx)
	if err != nil {
		z.t.Fatalf("%v\n%s", err, z.tail())
	}
	s := newMemStore(z.store)
	err = f.Dump(ctx, s.sink(), z.store != nil)
	z.files = map[string][]byte{}
	for _, o := range f.Files() {
		if b, rerr := io.ReadAll(o.File); rerr != nil {
			err = errors.Join(err, rerr)
		} else if o.Path != z.dir+"/out" {
			z.files[o.Path] = b
		}
	}
	if err := errors.Join(err, f.Thaw()); err != nil {
		z.t.Fatal(err)
	}
	z.tree.Committed()
	z.store = s
}

// restore kills the animal and brings it back.
func (z *cage) restore() {
	z.t.Helper()
	ctx := context.Background()
	if err := z.tree.Kill(ctx); err != nil {
		z.t.Fatal(err)
	}
	_ = z.tree.Close()
	z.closed = true
	st, err := z.out.Stat()
	if err != nil {
		z.t.Fatal(err)
	}
	z.mark = st.Size()
	for path, b := range z.files {
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, b) {
			continue
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			z.t.Fatal(err)
		}
	}
	r, err := Restore(ctx, z.store.source(), RestoreOptions{Record: z.record})
	if err != nil {
		z.t.Fatal(err)
	}
	tree, err := r.Run()
	if err != nil {
		z.t.Fatalf("%v\n%s", err, z.tail())
	}
	z.tree, z.closed = tree, false
}

// rounds waits until the animal has lived for n more rounds since now.
func (z *cage) rounds(n int) {
	z.t.Helper()
	from := z.count()
	deadline := time.Now().Add(30 * time.Second)
	for z.count() < from+n {
		select {
		case <-z.tree.Done():
			time.Sleep(10 * time.Millisecond)
			if z.count() < from+n {
				st, _ := z.tree.Status()
				z.t.Fatalf("it died (status %+v)\n%s", st, z.tail())
			}
		case <-time.After(3 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			z.t.Fatalf("it does not go on\n%s", z.tail())
		}
	}
}

// count is how many rounds the animal has said to have lived since it was last
// restored; a bad one ends the test.
func (z *cage) count() int {
	z.t.Helper()
	b := z.since()
	if bytes.Contains(b, []byte("BAD")) {
		z.t.Fatalf("%s", z.tail())
	}
	return bytes.Count(b, []byte("ok "))
}

func (z *cage) since() []byte {
	b, err := io.ReadAll(io.NewSectionReader(z.out, z.mark, 1<<40))
	if err != nil {
		z.t.Fatal(err)
	}
	return b
}

// tail is the end of what the animal said.
func (z *cage) tail() string {
	b, _ := os.ReadFile(z.dir + "/out")
	return fmt.Sprintf("... %s(%d bytes since the last restore)", b[max(len(b)-400, 0):], int64(len(b))-z.mark)
}
