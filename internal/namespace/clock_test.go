package namespace

import (
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain is also a process whose first thread makes a time namespace.
func TestMain(m *testing.M) {
	if os.Getenv("FIRST_THREAD") == "" {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // main begins on it
	if unix.Gettid() != os.Getpid() {
		os.Exit(2)
	}
	f, err := (&Spawn{Monotonic: 5e9}).newTimeNamespace()
	if err != nil {
		os.Exit(3)
	}
	defer f.Close()
	done := make(chan [2]int64)
	go func() {
		own, _ := OwnOffsets()
		done <- own
	}()
	first, _ := Offsets(os.Getpid())
	if own := <-done; own != [2]int64{} || first[0] != 5e9 {
		os.Exit(4)
	}
	os.Exit(0)
}

// TestOwnOffsets: what the first thread has made for others are not our clocks.
func TestOwnOffsets(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "FIRST_THREAD=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
