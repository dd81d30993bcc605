package notify

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// TestForget: the socket goes that a workload's directory names, and no other.
func TestForget(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	dir := t.TempDir()
	name := "test-" + filepath.Base(filepath.Dir(dir))
	path := Path(name, dir)
	if path == "" {
		t.Fatal("no path")
	}
	foreign := filepath.Join(t.TempDir(), "x.notify")
	for _, p := range []string{path, foreign} {
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		c, err := net.ListenPacket("unixgram", p)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		defer Remove(p)
	}
	if err := Link(dir, foreign); err != nil {
		t.Fatal(err)
	}
	Forget(dir)
	if _, err := os.Lstat(foreign); err != nil {
		t.Error("a socket that is none of ours was removed:", err)
	}
	if err := Link(dir, path); err != nil {
		t.Fatal(err)
	}
	Forget(dir)
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Error("its socket is left:", err)
	}
	Forget(dir)         // and once more
	Forget(t.TempDir()) // or never
}
