package durable_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/durable"
)

var (
	killsN    = flag.Int("kills.n", 10, "servers that are killed")
	killsSeed = flag.Uint64("kills.seed", 1, "what draws when")
)

const (
	// childDir says to this program that it is a server to be killed, and where.
	childDir     = "WAKEPOINT_TEST_DURABLE_DIR"
	childWriters = 4
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, serveUntilKilled(dir))
		os.Exit(1)
	}
	if dir := os.Getenv(childJobs); dir != "" {
		fmt.Fprintln(os.Stderr, bankUntilKilled(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// startHere opens a database of the operating system's.
func startHere(dir string) (*server, error) { return start(nil, dir, 4) }

// serveUntilKilled does transactions and says of each, when it is acknowledged,
// its number; so it does of what it has read.
func serveUntilKilled(dir string) error {
	s, err := startHere(dir)
	if err != nil {
		return err
	}
	over := make(chan error)
	say := func(n int64) error {
		_, err := fmt.Println(n)
		return err
	}
	for range childWriters {
		go func() {
			var n int64
			err := error(nil)
			for err == nil {
				err = s.Update(context.Background(), func(tx *durable.Tx) error {
					n, _ = s.counts.Get(tx, last)
					n++
					s.do(tx, n)
					return nil
				})
				if err == nil {
					err = say(n)
				}
			}
			over <- err
		}()
	}
	go func() {
		var n int64
		err := error(nil)
		for err == nil {
			time.Sleep(time.Millisecond)
			err = s.View(context.Background(), func(tx *durable.Tx) error {
				n, _ = s.counts.Get(tx, last)
				return nil
			})
			if err == nil {
				err = say(n)
			}
		}
		over <- err
	}()
	go func() {
		err := error(nil)
		for err == nil {
			time.Sleep(3 * time.Millisecond)
			err = s.Checkpoint(context.Background())
		}
		over <- err
	}()
	return <-over
}

// TestKills kills a server at any instant, again and again, and keeps a ledger of
// what it has said. It shows that a process may end anywhere; what is not synced
// is the business of TestCrash.
func TestKills(t *testing.T) {
	r := rand.New(rand.NewPCG(*killsSeed, 3))
	dir := filepath.Join(t.TempDir(), "db")
	at, want := int64(0), state{}
	for kill := range *killsN {
		said := killed(t, dir, time.Duration(r.IntN(30000))*time.Microsecond)
		s, err := startHere(dir)
		if err != nil {
			t.Fatalf("kill %d: %v", kill, err)
		}
		var n int64
		var got state
		err = s.View(context.Background(), func(tx *durable.Tx) (err error) {
			n, _ = s.counts.Get(tx, last)
			got, err = s.read(tx)
			return err
		})
		if n < max(said, at) || n > max(said, at)+childWriters || err != nil {
			t.Fatalf("kill %d: the last transaction is %d, %d was acknowledged: %v", kill, n, said, err)
		}
		for ; at < n; at++ {
			want.change(at + 1)
		}
		if err := differ(n, want, got); err != nil {
			t.Fatalf("kill %d: %v", kill, err)
		}
		if err := s.Close(); err != nil {
			t.Fatalf("kill %d: %v", kill, err)
		}
	}
	t.Logf("seed %d: %d of %d kills, %d transactions, 0 acknowledged lost, 0 half applied", *killsSeed, *killsN, *killsN, at)
}

// killed starts a server, kills it when it has worked for a while, and returns
// the last that it said.
func killed(t *testing.T, dir string, after time.Duration) (said int64) {
	t.Helper()
	return killedAs(t, childDir, dir, after)
}

// killedAs does so with the server that a variable stands for.
func killedAs(t *testing.T, variable, dir string, after time.Duration) (said int64) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), variable+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for first := true; lines.Scan(); first = false {
		if first {
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		var n int64
		if _, err := fmt.Sscanf(lines.Text()+"\n", "%d\n", &n); err == nil { // the last line may be cut short
			said = max(said, n)
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() >= 0 {
		t.Fatalf("the server ended by itself: %v", err)
	}
	return said
}
