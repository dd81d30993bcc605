package keeper

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// What testdata/bench/ticks.c can be asked.
const (
	opGap   = 1 // the largest gap between two ticks since the last question, ns
	opDirty = 2 // write to so many pages, scattered
	opCheck = 3 // how many pages are not as they should be
	opFork  = 4 // how long a fork keeps its caller, ns
	opCopy  = 5 // how long a copy of so many pages takes, ns
)

// Offsets in the page that it shares with us; its `struct control` is the same list.
const (
	atAsked    = 0
	atAnswered = 24
	atResult   = 32
	atLife     = 40
	atFirst    = 48
)

// ticks is a running testdata/bench/ticks.c. Questions and answers go through
// a page on tmpfs that it has mapped: asking dirties nothing of its own.
type ticks struct {
	b       *testing.B
	control *os.File
	died    func() bool
	asked   uint64
	lives   uint64
}

// buildTicks compiles the program.
func buildTicks(b *testing.B) string {
	b.Helper()
	out := filepath.Join(b.TempDir(), "ticks")
	text, err := exec.Command("gcc", "-O2", "-static", "-o", out, "testdata/bench/ticks.c").CombinedOutput()
	if err != nil {
		b.Fatalf("gcc: %v\n%s", err, text)
	}
	return out
}

// newTicks makes the page through which a program is asked.
func newTicks(b *testing.B) *ticks {
	b.Helper()
	f, err := os.CreateTemp("/dev/shm", "wakepoint-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		f.Close()
		os.Remove(f.Name())
	})
	if err := f.Truncate(4096); err != nil {
		b.Fatal(err)
	}
	return &ticks{b: b, control: f}
}

// argv runs the program with so much memory.
func (t *ticks) argv(program string, mib int) []string {
	return []string{program, t.control.Name(), strconv.Itoa(mib)}
}

// ask has the program do something and returns its result.
func (t *ticks) ask(op int, argument int64) uint64 {
	t.b.Helper()
	t.asked++
	var q [24]byte
	binary.NativeEndian.PutUint64(q[8:], uint64(op))
	binary.NativeEndian.PutUint64(q[16:], uint64(argument))
	t.write(q[8:], atAsked+8)
	binary.NativeEndian.PutUint64(q[:], t.asked)
	t.write(q[:8], atAsked)
	t.await(fmt.Sprintf("answer to %d", op), func() bool { return t.word(atAnswered) == t.asked })
	return t.word(atResult)
}

// gap returns the largest gap between two ticks since the last question.
func (t *ticks) gap() time.Duration { return time.Duration(t.ask(opGap, 0)) }

// sound fails the benchmark unless the memory is what the program wrote.
func (t *ticks) sound() {
	t.b.Helper()
	if n := t.ask(opCheck, 0); n != 0 {
		t.b.Fatalf("%d pages of the program are not what it wrote", n)
	}
}

// newLife announces a restore: the program notes its first tick afterwards.
func (t *ticks) newLife() {
	t.b.Helper()
	t.lives++
	var q [16]byte
	binary.NativeEndian.PutUint64(q[:], t.lives)
	t.write(q[:], atLife)
}

// first waits for the first tick of a new life.
func (t *ticks) first() time.Time {
	t.b.Helper()
	t.await("first tick", func() bool { return t.word(atFirst) != 0 })
	return time.Unix(0, int64(t.word(atFirst)))
}

func (t *ticks) word(at int64) uint64 {
	var p [8]byte
	if _, err := t.control.ReadAt(p[:], at); err != nil {
		t.b.Fatal(err)
	}
	return binary.NativeEndian.Uint64(p[:])
}

func (t *ticks) write(p []byte, at int64) {
	if _, err := t.control.WriteAt(p, at); err != nil {
		t.b.Fatal(err)
	}
}

func (t *ticks) await(what string, done func() bool) {
	t.b.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(50 * time.Microsecond) {
		if t.died != nil && t.died() {
			t.b.Fatalf("%s: the program died", what)
		}
		if time.Now().After(end) {
			t.b.Fatalf("%s: none in a minute", what)
		}
	}
}

// startPlain runs a second program with the same memory, unprotected: the
// floors are measured in it, so that they do not disturb the first.
func startPlain(b *testing.B, program string, mib int) *ticks {
	b.Helper()
	t := newTicks(b)
	argv := append(t.argv(program, mib), "idle")
	cmd := exec.Command(argv[0], argv[1:]...)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.died = func() bool { return startTicks(cmd.Process.Pid) == 0 }
	t.gap()
	return t
}
