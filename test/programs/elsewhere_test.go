//go:build linux

package programs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bareVar tells a process of this program to make a bare root in the directory
// that it names, and to hold it.
const bareVar = "WAKEPOINT_TEST_BARE"

// bare is a machine on which nothing is but wakepoint, as far as files tell: a
// root directory in memory, in a mount namespace of its own.
type bare struct {
	t      *testing.T
	holder *exec.Cmd
	in     io.WriteCloser
}

func newBare(t *testing.T, dir string) *bare {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &bare{t: t, holder: exec.Command(self)}
	b.holder.Env = []string{bareVar + "=" + dir}
	b.holder.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	b.holder.Stderr = os.Stderr
	if b.in, err = b.holder.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := b.holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.in.Close()
		b.holder.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatalf("make a bare root: %v", err)
	}
	return b
}

// holdBare is the process that makes the root, and holds it until its standard
// input ends.
func holdBare(dir string) error {
	if err := unix.Mount("bare", dir, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	for _, sub := range []string{"/proc", "/dev"} {
		if err := os.Mkdir(dir+sub, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("proc", dir+"/proc", "proc", 0, ""); err != nil {
		return err
	}
	old := unix.Umask(0)
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "random": 8, "urandom": 9} {
		if err := unix.Mknod(dir+"/dev/"+name, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			return err
		}
	}
	unix.Umask(old)
	program, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "wakepoint"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(dir+"/wakepoint", program, 0o755); err != nil {
		return err
	}
	// The old root comes to lie over the new one, and goes (pivot_root(2)).
	if err := errors.Join(os.Chdir(dir), unix.PivotRoot(".", "."), unix.Unmount(".", unix.MNT_DETACH), os.Chdir("/")); err != nil {
		return err
	}
	if _, err := os.Stdout.Write([]byte("!")); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// path is a file of the bare root as we see it.
func (b *bare) path(name string) string {
	return fmt.Sprintf("/proc/%d/root%s", b.holder.Process.Pid, name)
}

// try runs wakepoint there.
func (b *bare) try(args ...string) (out, words string, err error) {
	cmd := exec.Command("nsenter", append([]string{fmt.Sprintf("--mount=/proc/%d/ns/mnt", b.holder.Process.Pid), "/wakepoint"}, args...)...)
	cmd.Env = []string{"PATH=/"}
	var o, w bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &o, &w, 5*time.Second
	err = cmd.Run()
	return o.String(), w.String(), err
}

func (b *bare) must(args ...string) string {
	b.t.Helper()
	out, words, err := b.try(args...)
	if err != nil {
		b.t.Fatalf("there: wakepoint %s: %v\n%s", strings.Join(args, " "), err, words)
	}
	return out
}

var fingerprint = regexp.MustCompile(`signed by ([0-9a-f]{64})`)

// TestElsewhere: a program with its files goes on where nothing of it is:
// neither its executable, nor its libraries, nor its files.
func TestElsewhere(t *testing.T) {
	need(t, "util-linux", "nsenter")
	r := newRig(t, "elsewhere")
	if session.plain {
		t.Skip("skip: without Wakepoint nothing goes elsewhere")
	}
	data := filepath.Join(r.dir, "data")
	if err := errors.Join(os.MkdirAll(data+"/sub", 0o750), os.WriteFile(data+"/sub/text", []byte("text"), 0o640), os.Symlink("text", data+"/sub/link")); err != nil {
		t.Fatal(err)
	}
	script := testdata(t, r.dir, "elsewhere.py")
	r.start([]string{"--every", "1h", "--data", data}, []string{python(t), script})
	drawn, at := counts(t, data+"/count", 20)
	r.checkpoint()
	parcel := filepath.Join(r.top, "parcel")
	r.must("export", r.name, parcel)
	r.must("rm", "--yes", r.name)

	program, err := os.ReadFile(session.bin)
	root := filepath.Join(r.top, "root")
	if err = errors.Join(err, os.WriteFile(filepath.Join(r.top, "wakepoint"), program, 0o755), os.Mkdir(root, 0o755)); err != nil {
		t.Fatal(err)
	}
	b := newBare(t, root)
	t.Cleanup(func() {
		if _, words, err := b.try("rm", "--yes", r.name); err != nil {
			t.Errorf("rm there: %v\n%s", err, words)
		}
	})
	for _, gone := range []string{"/usr", "/lib", "/lib64", "/bin", "/etc", r.top} {
		if _, err := os.Lstat(b.path(gone)); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s is there: %v", gone, err)
		}
	}
	text, err := os.ReadFile(parcel)
	if err = errors.Join(err, os.WriteFile(b.path("/parcel"), text, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, words, err := b.try("import", "/parcel")
	print := fingerprint.FindStringSubmatch(words)
	if err == nil || print == nil {
		t.Fatalf("a signer that nobody knows there: %v\n%s", err, words)
	}
	if got := b.must("import", "--trust", print[1], "/parcel"); got != r.name+"\n" {
		t.Errorf("imported as %q", got)
	}
	b.must("recover")
	if _, err := os.Lstat(b.path(data)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("recover has brought it up: %v", err)
	}
	b.must("start", r.name)
	now, at := counts(t, b.path(data+"/count"), at+20)
	if now != drawn {
		t.Error("it did not go on: it began anew")
	}
	if text, err := os.ReadFile(b.path(data + "/sub/link")); err != nil || string(text) != "text" {
		t.Errorf("its files: %q, %v", text, err)
	}
	// There it is a workload like any other.
	b.must("checkpoint", r.name)
	b.must("stop", r.name)
	b.must("start", r.name)
	if now, _ := counts(t, b.path(data+"/count"), at+40); now != drawn {
		t.Error("it did not go on there: it began anew")
	}
}

// counts waits until the program has counted so far, and returns what it drew
// when it began and where it is.
func counts(t *testing.T, file string, want int) (drawn string, at int) {
	t.Helper()
	eventually(t, patience, "it counts", func() error {
		text, err := os.ReadFile(file)
		if err == nil {
			_, err = fmt.Sscan(string(text), &drawn, &at)
		}
		if err == nil && at < want {
			err = fmt.Errorf("it is at %d, not at %d", at, want)
		}
		return err
	})
	return drawn, at
}
