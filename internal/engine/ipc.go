package engine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// inIPC runs f on a thread of its own inside a process's IPC namespace.
func inIPC(pid int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/ipc", pid))
		if err != nil {
			done <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWIPC); err != nil {
			done <- fmt.Errorf("enter the IPC namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// sharesIPC says whether the tree uses the host's IPC namespace.
func (t *Tree) sharesIPC() bool {
	theirs, err1 := os.Readlink(fmt.Sprintf("/proc/%d/ns/ipc", t.member()))
	ours, err2 := os.Readlink("/proc/self/ns/ipc")
	return err1 == nil && err2 == nil && theirs == ours
}

// segment finds a System V segment by its inode, which is its id.
func (d *dumper) segment(ino uint64) (procfs.SharedMemory, bool) {
	for _, s := range d.segments {
		if uint64(s.ID) == ino {
			return s, true
		}
	}
	return procfs.SharedMemory{}, false
}

// ipc reads the tree's System V objects. Semaphores and queues are refused.
func (d *dumper) ipc() error {
	t := d.f.tree
	var err error
	if t.ipc == nil {
		err = inIPC(t.member(), func() error {
			t.ipc, err = procfs.OpenIPC()
			return err
		})
		if err != nil {
			return err
		}
	}
	if d.segments, err = t.ipc.SharedMemory(); err != nil || d.tree.HostIPC {
		return err
	}
	sems, err := t.ipc.Semaphores()
	if err != nil {
		return err
	}
	queues, err := t.ipc.MessageQueues()
	if err != nil {
		return err
	}
	command := int(t.handle.Command)
	const hint = "ipcrm(1) removes what nobody uses any more; else start it without"
	for _, s := range sems {
		_ = d.f.note(refuse(command, fmt.Sprintf("System V semaphore set %d cannot be saved", s.ID), hint))
	}
	for _, q := range queues {
		_ = d.f.note(refuse(command, fmt.Sprintf("System V message queue %d cannot be saved", q.ID), hint))
	}
	return nil
}

// bindInside binds a UNIX socket under exactly the name that it had: the bytes
// of the address, relative ones included, are what its clients see.
func (r *restorer) bindInside(fd int, s *image.Socket) error {
	name, _, _ := bytes.Cut(s.Local[2:], []byte{0})
	if filepath.IsAbs(string(name)) && r.path(string(name)) == string(name) {
		return sys.Bind(fd, s.Local)
	}
	dir := s.Path[:len(s.Path)-len(filepath.Clean(string(name)))]
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread, with its own directory, ends with the goroutine
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			done <- err
			return
		}
		if err := unix.Chdir(r.inside(dir)); err != nil {
			done <- err
			return
		}
		done <- sys.Bind(fd, s.Local)
	}()
	return <-done
}
