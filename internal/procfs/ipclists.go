package procfs

import (
	"errors"
	"io"
	"os"
)

// IPCLists are the lists of System V objects of one IPC namespace, opened once:
// an open file of /proc/sysvipc stays with the namespace of whoever opened it.
type IPCLists struct {
	shm, sem, msg *os.File
	buf           []byte
}

// OpenIPC opens the lists of the IPC namespace of the calling thread.
func OpenIPC() (*IPCLists, error) {
	l := &IPCLists{buf: make([]byte, 64<<10)}
	for _, x := range []struct {
		name string
		to   **os.File
	}{{"shm", &l.shm}, {"sem", &l.sem}, {"msg", &l.msg}} {
		f, err := os.Open("/proc/sysvipc/" + x.name)
		if err != nil {
			l.Close()
			return nil, err
		}
		*x.to = f
	}
	return l, nil
}

// Close closes the lists.
func (l *IPCLists) Close() {
	for _, f := range []*os.File{l.shm, l.sem, l.msg} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// SharedMemory reads the list of segments as it is now.
func (l *IPCLists) SharedMemory() ([]SharedMemory, error) {
	return readIPC(l, l.shm, ParseSharedMemory)
}

// Semaphores reads the list of semaphore sets.
func (l *IPCLists) Semaphores() ([]SemaphoreSet, error) { return readIPC(l, l.sem, ParseSemaphores) }

// MessageQueues reads the list of message queues.
func (l *IPCLists) MessageQueues() ([]MessageQueue, error) {
	return readIPC(l, l.msg, ParseMessageQueues)
}

func readIPC[T any](l *IPCLists, f *os.File, parse func([]byte) ([]T, error)) ([]T, error) {
	n := 0
	for {
		k, err := f.ReadAt(l.buf[n:], int64(n))
		n += k
		if k == 0 || errors.Is(err, io.EOF) {
			return parse(l.buf[:n])
		}
		if err != nil {
			return nil, err
		}
		if n == len(l.buf) {
			l.buf = append(l.buf, make([]byte, n)...)
		}
	}
}
