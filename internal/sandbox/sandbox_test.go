package sandbox

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inside is set in the environment of a process that is to be sealed.
const inside = "WAKEPOINT_TEST_INSIDE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(inside); dir != "" {
		if err := trial(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// needRoot skips a test that makes namespaces.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// trial is what a sealed process tries.
func trial(dir string) error {
	other, err := os.OpenFile(filepath.Join(dir, "other"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	covered, gone := filepath.Join(dir, "covered"), filepath.Join(dir, "nowhere")
	room, err := Enter(Options{Scratch: filepath.Join(dir, "scratch"), Budget: 1 << 20, Over: map[string]*os.File{covered: other, gone: other}})
	if err != nil {
		return err
	}
	if !room.Writable(dir) {
		return fmt.Errorf("%s is not writable: %v", dir, room.Fixed)
	}
	var wrong []string
	check := func(what string, ok bool) {
		if !ok {
			wrong = append(wrong, what)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "old"))
	check(fmt.Sprintf("the host's file reads %q: %v", text, err), string(text) == "before")
	check(fmt.Sprintf("other files are seen at %v", room.Over), room.Over[covered] && !room.Over[gone])
	text, err = os.ReadFile(covered)
	check(fmt.Sprintf("the other file reads %q: %v", text, err), string(text) == "other")
	check("the other file cannot be written to", os.WriteFile(covered, []byte("after"), 0o600) == nil)
	check("the other file can be removed", os.Remove(covered) != nil)
	check("a file that was there cannot be changed", os.WriteFile(filepath.Join(dir, "old"), []byte("after"), 0o600) == nil)
	check("a file that was there cannot be removed", os.Remove(filepath.Join(dir, "gone")) == nil)
	check("no new file can be made", os.WriteFile(filepath.Join(dir, "new"), nil, 0o600) == nil)
	_, err = net.Dial("unix", filepath.Join(dir, "socket"))
	check("a socket of the host is reached", err != nil)
	_, err = net.Dial("tcp", os.Getenv("WAKEPOINT_TEST_ADDRESS"))
	check("the host is reached by TCP", err != nil)
	l, err := net.Listen("tcp", "192.0.2.1:80")
	check(fmt.Sprintf("nobody can listen on any address: %v", err), err == nil)
	if err == nil {
		_, err := net.Dial("tcp", "192.0.2.1:80")
		check(fmt.Sprintf("who listens inside is not reached: %v", err), err == nil)
		l.Close()
	}
	_, err = os.OpenFile(filepath.Join(dir, "device"), os.O_RDWR, 0)
	check("a device is opened", err != nil)
	check("nothing can be written to /dev/null", os.WriteFile("/dev/null", []byte("x"), 0) == nil)
	list, _ := filepath.Glob("/dev/shm/*")
	check(fmt.Sprintf("/dev/shm has %v", list), len(list) == 0)
	procs, _ := filepath.Glob("/proc/[0-9]*")
	check(fmt.Sprintf("other processes are seen: %v", procs), len(procs) == 1)
	now := unix.Timespec{}
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &now)
	check("the clock can be set", unix.ClockSettime(unix.CLOCK_REALTIME, &now) == unix.EPERM)
	check("the budget is not kept", os.WriteFile(filepath.Join(dir, "large"), bytes.Repeat([]byte("x"), 2<<20), 0o600) != nil)
	check("/dev/shm is beside the budget", os.WriteFile("/dev/shm/large", bytes.Repeat([]byte("x"), 2<<20), 0o600) != nil)
	check("what is left is not told", room.Left() < 1<<20)
	if len(wrong) > 0 {
		return fmt.Errorf("%s", strings.Join(wrong, "\n"))
	}
	return nil
}

// TestEnter has a sealed process try to leave something behind.
func TestEnter(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "a, b:c") // what overlays want escaped
	for _, d := range []string{dir, filepath.Join(dir, "scratch")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"old": "before", "gone": "before", "covered": "before", "other": "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mknod(filepath.Join(dir, "device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	u, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	shm := fmt.Sprintf("/dev/shm/wakepoint-test-%d", os.Getpid())
	if err := os.WriteFile(shm, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(shm)
	if _, err := os.OpenFile(filepath.Join(dir, "device"), os.O_RDWR, 0); err != nil {
		t.Fatal("the host cannot open the device either:", err)
	}

	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), inside+"="+dir, "WAKEPOINT_TEST_ADDRESS="+l.Addr().String())
	cmd.SysProcAttr = Attr()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, want := range map[string]string{"old": "before", "gone": "before", "covered": "before", "other": "after", "new": "", "large": ""} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if (err == nil) != (want != "") || string(text) != want {
			t.Errorf("%s is %q afterwards: %v", name, text, err)
		}
	}
	if list, err := os.ReadDir(filepath.Join(dir, "scratch")); err != nil || len(list) > 0 {
		t.Errorf("the scratch directory holds %v: %v", list, err)
	}
}
