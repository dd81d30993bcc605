package files

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/wakepoint/wakepoint/internal/fanotify"
)

// program is a shell that does what it is told.
type program struct {
	t   *testing.T
	pid int
	in  io.Writer
	out *bufio.Scanner
}

// newProgram starts a shell; apart: with mounts of its own.
func newProgram(t *testing.T, apart bool) *program {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skip: needs root: mounts are watched by fanotify")
	}
	cmd := exec.Command("sh", "-s")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if apart {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
	}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	must(t, err1, err2, cmd.Start())
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	p := &program{t, cmd.Process.Pid, in, bufio.NewScanner(out)}
	if apart {
		p.do("mount --make-rslave /")
	}
	return p
}

func (p *program) do(script string) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.in, "%s\necho status $?\n", script); err != nil {
		p.t.Fatal(err)
	}
	if !p.out.Scan() || p.out.Text() != "status 0" {
		p.t.Fatalf("%s: %q", script, p.out.Text())
	}
}

func newTestWatch(t *testing.T, of Of) *Watch {
	t.Helper()
	w, err := NewWatch(of, -1)
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	return w
}

// paths are the names in a batch that lie below dir.
func paths(b *Batch, dir string) (files, gone []string) {
	for _, f := range b.Files {
		if name, ok := strings.CutPrefix(f.Path, dir+"/"); ok {
			files = append(files, name)
		}
	}
	for _, p := range b.Gone {
		if name, ok := strings.CutPrefix(p, dir+"/"); ok {
			gone = append(gone, name)
		}
	}
	slices.Sort(files)
	return slices.Compact(files), gone
}

func TestWatchNamesWhatWasClosed(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/store", 0o700), os.Mkdir(dir+"/later", 0o700))
	p := newProgram(t, true)
	w := newTestWatch(t, Of{PID: p.pid, Except: []string{dir + "/store"}})
	write(t, dir+"/foreign", "by another program", 0o600)
	p.do("cd " + dir + "; echo 1 > a; exec 3> open; echo 2 >&3; echo 3 > store/out; cat a > /dev/null")
	b := w.Collect()
	if files, gone := paths(b, dir); !slices.Equal(files, []string{"a"}) || gone != nil {
		t.Errorf("closed: %q gone %q", files, gone)
	}
	p.do("exec 3>&-; echo 4 > b")
	if files, _ := paths(w.Collect(), dir); !slices.Equal(files, []string{"a", "b", "open"}) {
		t.Errorf("what no generation has is lost: %q", files)
	}
	w.Forget(b)
	if files, _ := paths(w.Collect(), dir); !slices.Equal(files, []string{"b", "open"}) {
		t.Errorf("after a generation: %q", files)
	}
	p.do("echo 5 > a")
	w.Forget(b)
	if files, _ := paths(w.Collect(), dir); !slices.Equal(files, []string{"a", "b", "open"}) {
		t.Errorf("what was written again is forgotten: %q", files)
	}
	p.do("mount -t tmpfs none later")
	must(t, w.Mark())
	p.do("echo 6 > later/c")
	if files, _ := paths(w.Collect(), dir); !slices.Contains(files, "later/c") {
		t.Errorf("on a later mount: %q", files)
	}
	if notes := w.Notes(); notes != nil {
		t.Errorf("notes: %q", notes)
	}
}

// What a program on the host's mounts writes is told from what others do.
func TestWatchOfATree(t *testing.T) {
	dir := t.TempDir()
	p := newProgram(t, false)
	w := newTestWatch(t, Of{PID: p.pid, Tree: true})
	write(t, dir+"/foreign", "by another program", 0o600)
	p.do("cd " + dir + "; echo 1 > a; (echo 2 > b; sleep 0.2)")
	if files, _ := paths(w.Collect(), dir); !slices.Equal(files, []string{"a", "b"}) {
		t.Errorf("closed: %q", files)
	}
	// Of a process that has ended nobody knows whose it was: it is told.
	for i := range 50 {
		p.do(fmt.Sprintf("(echo 3 > c%d)", i))
	}
	files, _ := paths(w.Collect(), dir)
	if known := len(files) - 2; known != 50 && !strings.Contains(strings.Join(w.Notes(), "\n"), "ended before it was known") {
		t.Errorf("%d of 50 files, and nothing is said: %q", known, w.Notes())
	}
}

func TestKinRemembersTheEnded(t *testing.T) {
	p := newProgram(t, false)
	k := newKin(p.pid)
	if ours, known := k.is(p.pid); !ours || !known {
		t.Errorf("the root: %v %v", ours, known)
	}
	if ours, known := k.is(os.Getpid()); ours || !known {
		t.Errorf("its parent: %v %v", ours, known)
	}
	const nobody = 1 << 30
	if ours, known := k.is(nobody); ours || known {
		t.Errorf("one that has ended: %v %v", ours, known)
	}
	k.known[nobody] = true
	if ours, known := k.is(nobody); !ours || !known {
		t.Errorf("one that was seen before it ended: %v %v", ours, known)
	}
}

// A program that makes and deletes files without end takes no more memory.
func TestWatchSweepsWhatWasDeleted(t *testing.T) {
	dir := t.TempDir()
	p := newProgram(t, true)
	w := newTestWatch(t, Of{PID: p.pid})
	p.do("cd " + dir + "; echo 1 > old; mv old new")
	w.Collect()
	w.mu.Lock()
	w.serial = 3 * goneMax
	for i := range 3 * goneMax {
		w.files[fileName{fmt.Sprintf("%s/t%d", dir, i), 1, uint64(i)}] = fileSeen{serial: uint64(i)}
	}
	w.sweepAt = len(w.files)
	w.mu.Unlock()
	p.do("echo 2 > b")
	files, gone := paths(w.Collect(), dir)
	if slices.Sort(files); len(files) != 2 || files[0] != "b" || len(gone) < goneMax || len(gone) > 2*goneMax {
		t.Errorf("files %q, %d gone", files, len(gone))
	}
}

func TestWatchSaysWhatItMissed(t *testing.T) {
	p := newProgram(t, true)
	w := newTestWatch(t, Of{PID: p.pid})
	w.mu.Lock()
	w.event(fanotify.Event{FD: -1, Lost: true})
	for i := range writtenMax {
		w.files[fileName{"/etc/passwd", 1, uint64(i)}] = fileSeen{handle: []byte{0}}
	}
	w.mu.Unlock()
	if notes := w.Notes(); len(notes) != 1 || !strings.Contains(notes[0], "--data") {
		t.Errorf("overflow: %q", notes)
	}
}

// BenchmarkWatch prints what an event costs: of one file again and again, and
// of files that are all different.
func BenchmarkWatch(b *testing.B) {
	for _, names := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("%d_names", names), func(b *testing.B) {
			if os.Geteuid() != 0 {
				b.Skip("skip: needs root: mounts are watched by fanotify")
			}
			dir := b.TempDir()
			w, err := newWatch(Of{PID: os.Getpid()}, -1)
			if err != nil {
				b.Fatal(err)
			}
			defer w.file.Close()
			if err := fanotify.Mark(int(w.file.Fd()), dir); err != nil {
				b.Fatal(err)
			}
			for n := 0; b.Loop(); n++ {
				b.StopTimer()
				if err := os.WriteFile(fmt.Sprintf("%s/f%d", dir, n%names), nil, 0o600); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				w.conn.Control(func(fd uintptr) { w.drain(int(fd)) })
			}
		})
	}
}
