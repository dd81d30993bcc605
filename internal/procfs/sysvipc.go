package procfs

import "fmt"

// An IPCOwner is what the three kinds of System V IPC objects have in common.
// IDs of users and groups are those of the reader's user namespace, times
// seconds since 1970 with 0 for never.
type IPCOwner struct {
	Key        int32 // 0: IPC_PRIVATE
	ID         int
	Mode       uint32 // permissions, and SHM_DEST, SHM_LOCKED
	UID, GID   uint32
	CreatorUID uint32
	CreatorGID uint32
	ChangeTime int64
}

// A SharedMemory is one System V shared memory segment.
type SharedMemory struct {
	IPCOwner
	SizeBytes              uint64
	CreatorPID, LastPID    int
	Attached               uint64
	AttachTime, DetachTime int64
	RSSBytes, SwapBytes    uint64
}

// A SemaphoreSet is one System V semaphore set.
type SemaphoreSet struct {
	IPCOwner
	Count  uint64
	OpTime int64
}

// A MessageQueue is one System V message queue.
type MessageQueue struct {
	IPCOwner
	Bytes, Messages             uint64
	LastSendPID, LastReceivePID int
	SendTime, ReceiveTime       int64
}

// ParseSharedMemory reads the text of /proc/sysvipc/shm.
//
// Source: proc_sysvipc(5); ipc/shm.c, sysvipc_shm_proc_show.
func ParseSharedMemory(text []byte) ([]SharedMemory, error) {
	return parseIPC("shm", text, func(w *words) (s SharedMemory) {
		s.parseID(w)
		s.SizeBytes = w.uint(10)
		s.CreatorPID = w.int()
		s.LastPID = w.int()
		s.Attached = w.uint(10)
		s.parseOwner(w)
		s.AttachTime = w.int64()
		s.DetachTime = w.int64()
		s.ChangeTime = w.int64()
		s.RSSBytes = w.uint(10)
		s.SwapBytes = w.uint(10)
		return s
	})
}

// ParseSemaphores reads the text of /proc/sysvipc/sem.
//
// Source: proc_sysvipc(5); ipc/sem.c, sysvipc_sem_proc_show.
func ParseSemaphores(text []byte) ([]SemaphoreSet, error) {
	return parseIPC("sem", text, func(w *words) (s SemaphoreSet) {
		s.parseID(w)
		s.Count = w.uint(10)
		s.parseOwner(w)
		s.OpTime = w.int64()
		s.ChangeTime = w.int64()
		return s
	})
}

// ParseMessageQueues reads the text of /proc/sysvipc/msg.
//
// Source: proc_sysvipc(5); ipc/msg.c, sysvipc_msg_proc_show.
func ParseMessageQueues(text []byte) ([]MessageQueue, error) {
	return parseIPC("msg", text, func(w *words) (q MessageQueue) {
		q.parseID(w)
		q.Bytes = w.uint(10)
		q.Messages = w.uint(10)
		q.LastSendPID = w.int()
		q.LastReceivePID = w.int()
		q.parseOwner(w)
		q.SendTime = w.int64()
		q.ReceiveTime = w.int64()
		q.ChangeTime = w.int64()
		return q
	})
}

// parseIPC reads the lines after the title.
func parseIPC[T any](kind string, text []byte, parse func(*words) T) ([]T, error) {
	var list []T
	_, text = cutLine(text)
	for len(text) > 0 {
		var line []byte
		line, text = cutLine(text)
		w := words{rest: line}
		v := parse(&w)
		if w.err != nil {
			return nil, fmt.Errorf("sysvipc %s: %w", kind, w.err)
		}
		list = append(list, v)
	}
	return list, nil
}

func (o *IPCOwner) parseID(w *words) {
	o.Key = int32(w.int())
	o.ID = w.int()
	o.Mode = w.uint32(8)
}

func (o *IPCOwner) parseOwner(w *words) {
	o.UID = w.uint32(10)
	o.GID = w.uint32(10)
	o.CreatorUID = w.uint32(10)
	o.CreatorGID = w.uint32(10)
}

// SharedMemory reads /proc/sysvipc/shm, which is that of the reader's IPC
// namespace, whichever proc mount it is asked for.
func (r *Reader) SharedMemory() ([]SharedMemory, error) {
	return parsed(r, r.root+"/sysvipc/shm", ParseSharedMemory)
}

// Semaphores reads /proc/sysvipc/sem of the reader's IPC namespace.
func (r *Reader) Semaphores() ([]SemaphoreSet, error) {
	return parsed(r, r.root+"/sysvipc/sem", ParseSemaphores)
}

// MessageQueues reads /proc/sysvipc/msg of the reader's IPC namespace.
func (r *Reader) MessageQueues() ([]MessageQueue, error) {
	return parsed(r, r.root+"/sysvipc/msg", ParseMessageQueues)
}
