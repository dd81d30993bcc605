package engine

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// refusals are the animals of testdata/zoo/refused.c, with the words of the
// obstacle that each of them has.
//
// Not here, since they cannot be made where this is tested: a shadow stack, a
// mapped device, tagged addresses, a program under a security module's profile.
var refusals = []struct{ name, says string }{
	{"io_uring", "io_uring fd"},
	{"uffd", "userfaultfd fd"},
	{"fanotify", "fanotify fd"},
	{"perf", "perf_event fd"},
	{"bpf", "bpf-map fd"},
	{"landlock", "landlock-ruleset fd"},
	{"fs_context", "fscontext fd"},
	{"raw", "raw socket"},
	{"packet", "packet socket"},
	{"vsock", "vsock socket"},
	{"netlink_family", "netlink socket of protocol 9"},
	{"netlink_unread", "netlink socket with unread messages"},
	{"pty_master", "master of a terminal"},
	{"pty_slave", "terminal /dev/pts/"},
	{"device", "device /dev/kmsg"},
	{"mqueue", "POSIX message queue at fd"},
	{"sem", "System V semaphore"},
	{"msg", "System V message queue"},
	{"lease", "a LEASE on fd"},
	{"pidfd_init", "pidfd of a process outside"},
	{"proc_init", "/proc file of a process outside"},
	{"removed_directory", "removed directory at fd"},
	{"removed_fifo", "removed FIFO at fd"},
	{"removed_cwd", "cwd directory"},
	{"renamed", "no longer found under that name"},
	{"inotify_gone", "inotify fd"},
	{"epoll_sent", "epoll that travels in a message"},
	{"epoll_closed", "closed while something else keeps it open"},
	{"big_message", "message too large"},
	{"hugetlb", "huge pages (hugetlb)"},
	{"aio", "(/[aio])"},
	{"sealed", "sealed memory"},
	{"secret", "secret memory (memfd_secret) at fd"},
	{"mapped_socket", "is not a file"},
	{"seccomp", "seccomp"},
	{"seccomp_thread", "seccomp"},
	{"dispatch", "dispatches its own system calls"},
	{"ns_net", "net namespace"},
	{"ns_uts", "uts namespace"},
	{"ns_ipc", "ipc namespace"},
	{"ns_mnt", "mnt namespace"},
	{"ns_user", "user namespace"},
	{"ns_cgroup", "cgroup namespace"},
	{"ns_pid", "pid namespace"},
	{"ns_time", "time namespace"},
	{"ns_pid_empty", "pid namespace"},
	{"mounted", "mount of tmpfs"},
	{"share_vm", "CLONE_VM"},
	{"share_files", "CLONE_FILES"},
	{"share_fs", "CLONE_FS"},
	{"thread_files", "CLONE_FILES"},
	{"thread_fs", "CLONE_FS"},
	{"traced", "traced by pid"},
	{"leaderless", "first thread of pid"},
	{"keyring", "keyring of its own"},
	{"keyring_thread", "keyring of its own"},
	{"cpu_timer", "CPU clock of another process"},
}

// TestZooRefused: each refusal that the engine can give. A check names the
// obstacle with a hint, a checkpoint of it is refused for the same, and the
// program goes on unharmed.
func TestZooRefused(t *testing.T) {
	needRoot(t)
	program := build(t, "refused")
	var done atomic.Int32
	var wait sync.WaitGroup
	places := make(chan bool, zooAtOnce)
	for _, r := range refusals {
		places <- true
		wait.Add(1)
		go func() {
			defer func() { <-places; wait.Done() }()
			t.Run(r.name, func(t *testing.T) {
				z := &cage{t: t, animal: animal{name: r.name, refused: r.says}, program: program, dir: t.TempDir()}
				z.start()
				z.rounds(2)
				for range 2 {
					list, err := Check(z.tree.Handle().Command)
					z.obstacle(list, err)
					z.rounds(2)
					f, err := z.tree.Freeze(context.Background())
					if err == nil {
						_ = f.Thaw()
						t.Fatal("it was not refused")
					}
					var refused *RefusedError
					if !errors.As(err, &refused) {
						t.Fatal(err)
					}
					z.obstacle(refused.Obstacles, nil)
					z.rounds(2)
				}
				done.Add(1)
			})
		}()
	}
	wait.Wait()
	t.Logf("%d of %d refusals", done.Load(), len(refusals))
}

// obstacle looks for what the animal cannot be saved for.
func (z *cage) obstacle(list []Obstacle, err error) {
	z.t.Helper()
	if err != nil {
		z.t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(o Obstacle) bool { return strings.Contains(o.What, z.animal.refused) })
	if i < 0 {
		z.t.Fatalf("no obstacle says %q: %+v", z.animal.refused, list)
	}
	if o := list[i]; o.Hint == "" || o.PID == 0 || syscall.Kill(int(o.PID), 0) != nil {
		z.t.Fatalf("without a hint, or about nobody: %+v", o)
	}
}

// TestZooRefusedOutside: what an adopted program shares with the outside.
func TestZooRefusedOutside(t *testing.T) {
	needRoot(t)
	program := build(t, "refused")
	for _, kind := range []string{"pipe", "socket", "pidfd"} {
		t.Run(kind, func(t *testing.T) {
			z := &cage{t: t, animal: animal{name: "held", refused: "is also held by pid"}, program: program, dir: t.TempDir()}
			switch kind {
			case "socket":
				z.animal.refused = "whose other end lies outside the tree"
			case "pidfd":
				z.animal = animal{name: "outsider", refused: "pidfd of a process outside"}
			}
			pid := z.startOutside(kind)
			z.rounds(2)
			for range 2 {
				list, err := Check(pid)
				z.obstacle(list, err)
				z.rounds(2)
			}
		})
	}
}

// startOutside starts the animal as no workload; somebody else holds the other
// end of its descriptor 7.
func (z *cage) startOutside(kind string) PID {
	z.t.Helper()
	var ends [2]*os.File
	var err error
	if kind == "socket" {
		var fds [2]int
		if fds, err = syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0); err == nil {
			ends = [2]*os.File{os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")}
		}
	} else {
		ends[0], ends[1], err = os.Pipe()
	}
	if err == nil {
		z.out, err = os.OpenFile(z.dir+"/out", os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o666)
	}
	if err != nil {
		z.t.Fatal(err)
	}
	reader := exec.Command("cat")
	reader.Stdin = ends[0]
	cmd := exec.Command(z.program, z.animal.name)
	cmd.Dir, cmd.Stdout, cmd.Stderr = z.dir, z.out, z.out
	null, err := os.Open(os.DevNull)
	if err != nil {
		z.t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{null, null, null, null, ends[1]}
	if err := errors.Join(reader.Start(), cmd.Start(), ends[0].Close(), ends[1].Close(), null.Close()); err != nil {
		z.t.Fatal(err)
	}
	z.tree = &Tree{done: make(chan struct{})}
	z.t.Cleanup(func() {
		for _, c := range []*exec.Cmd{cmd, reader} {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
		_ = z.out.Close()
	})
	return PID(cmd.Process.Pid)
}

// TestCheckListsAll: a check names everything at once.
func TestCheckListsAll(t *testing.T) {
	needRoot(t)
	z := &cage{t: t, animal: animal{name: "many"}, program: build(t, "refused"), dir: t.TempDir()}
	z.start()
	z.rounds(2)
	for range 3 {
		list, err := Check(z.tree.Handle().Command)
		if err != nil {
			t.Fatal(err)
		}
		f, err := z.tree.Freeze(context.Background())
		if err == nil {
			_ = f.Thaw()
			t.Fatal("it was not refused")
		}
		var refused *RefusedError
		if !errors.As(err, &refused) {
			t.Fatal(err)
		}
		for _, l := range [][]Obstacle{list, refused.Obstacles} {
			for _, says := range strings.Split(`io_uring fd|packet socket|device /dev/kmsg|semaphore|message queue|sealed|cwd directory|uts namespace|pidfd of|seccomp|traced by`, "|") {
				if n := len(slices.DeleteFunc(slices.Clone(l), func(o Obstacle) bool { return !strings.Contains(o.What, says) })); n != 1 {
					t.Errorf("%d obstacles say %q", n, says)
				}
			}
			if t.Failed() {
				t.Fatalf("%+v", l)
			}
		}
		z.rounds(2)
	}
}
