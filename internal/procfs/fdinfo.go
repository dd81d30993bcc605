package procfs

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
)

// A Fdinfo is one open file as /proc/PID/fdinfo/N tells it. The four common
// fields are always there (Inode since 5.14); of the rest what the kind of file
// has. An epoll or inotify file that watches nothing prints nothing, so the kind
// is better known from the descriptor's link.
//
// Source: proc_pid_fdinfo(5); fs/proc/fd.c, seq_show, and each kind's
// show_fdinfo.
type Fdinfo struct {
	Pos   int64
	Flags uint32 // O_* of open(2), with O_CLOEXEC where the descriptor has it
	MntID int    // a mount of mountinfo, or one of the kernel's own
	Inode uint64
	Locks []Lock // held by this open file or by the process through it

	EventFD     *EventFD
	Epoll       []EpollTarget
	SigMask     *uint64 // of a signalfd; bit n-1 is signal n
	Inotify     []InotifyWatch
	Timer       *TimerFD
	PIDFD       *PIDFD
	TTYIndex    *int // of a pseudo-terminal's master: N of /dev/pts/N
	Userfault   *UserfaultFD
	Fanotify    bool
	IOUring     bool
	SCMFiles    int // files under way in the queue of a UNIX socket
	HasSCMFiles bool

	// Other has the values of every line that no field above holds, by key, in
	// the order of the file.
	Other map[string][]string
}

// EventFD is an eventfd(2). ID is unique on this boot (0: before 5.2 or not
// printed). Semaphore is printed since 6.5; Told says whether it was.
type EventFD struct {
	Count     uint64
	ID        int
	Semaphore bool
	Told      bool
}

// An EpollTarget is one file watched by an epoll(7) instance. FD is its number
// when it was added, which since then may have come to mean another file or none
// at all: Inode and Device, with Pos, are the watched file's.
type EpollTarget struct {
	FD     int
	Events uint32 // EPOLL*, with EPOLLET, EPOLLONESHOT and so on
	Data   uint64
	Pos    int64
	Inode  uint64
	Device KernelDevice
}

// An InotifyWatch is one watched inode. The inode may have more names than one,
// or none; Handle is for open_by_handle_at(2), and is missing where the file
// system has none.
type InotifyWatch struct {
	WD         int
	Inode      uint64
	Device     KernelDevice
	Mask       uint32 // IN_*
	Ignored    uint32
	HandleType int32
	Handle     []byte
}

// TimerFD is a timerfd_create(2). Times are nanoseconds; Value is what is left,
// 0 when it is disarmed, also where SettimeFlags has TFD_TIMER_ABSTIME.
type TimerFD struct {
	ClockID       int
	Ticks         uint64 // expirations not yet read
	SettimeFlags  uint32
	ValueNanos    uint64
	IntervalNanos uint64
}

// PIDFD is a pidfd_open(2). PID is -1 when the process is gone, 0 when it is not
// in the PID namespace of the proc mount.
type PIDFD struct {
	PID   int
	NSPID []int
}

// UserfaultFD is a userfaultfd(2): faults not read and not answered, and the
// API and features that were agreed.
type UserfaultFD struct {
	Pending, Total uint64
	API            uint64
	Features       uint64
	Flags          uint32
}

// KernelDevice is a device number in the encoding inside the kernel
// (include/linux/kdev_t.h), which fdinfo shows raw: 20 bits of minor.
type KernelDevice uint32

// Major returns the major number.
func (d KernelDevice) Major() uint32 { return uint32(d) >> 20 }

// Minor returns the minor number.
func (d KernelDevice) Minor() uint32 { return uint32(d) & (1<<20 - 1) }

// ParseFdinfo reads the text of /proc/PID/fdinfo/N.
func ParseFdinfo(text []byte) (Fdinfo, error) {
	var f Fdinfo
	for len(text) > 0 {
		var line []byte
		line, text = cutLine(text)
		if err := f.parseLine(line); err != nil {
			return Fdinfo{}, fmt.Errorf("fdinfo: %w", err)
		}
	}
	return f, nil
}

func (f *Fdinfo) parseLine(line []byte) error {
	w := words{rest: line}
	switch first := w.next(); string(first) {
	case "inotify":
		f.parseInotify(&w)
		return w.err
	case "fanotify":
		f.Fanotify = true
	}
	key, value, found := bytes.Cut(line, []byte{':'})
	if !found && len(trimSpace(line)) == 0 {
		return nil
	}
	w = words{rest: trimSpace(value)}
	if f.IOUring || !f.parseCommon(key, &w) && !f.parseEvents(key, &w) && !f.parseTimer(key, &w) && !f.parseKind(key, &w) {
		if string(key) == "SqMask" {
			f.IOUring = true
		}
		if f.Other == nil {
			f.Other = make(map[string][]string)
		}
		f.Other[string(key)] = append(f.Other[string(key)], string(trimSpace(value)))
	}
	if w.err != nil {
		return fmt.Errorf("%s: %w", key[:min(len(key), quoteMax)], w.err)
	}
	return nil
}

// parseCommon reads what every open file has; false: not such a key.
func (f *Fdinfo) parseCommon(key []byte, w *words) bool {
	switch string(key) {
	case "pos":
		f.Pos = w.int64()
	case "flags":
		f.Flags = w.uint32(8)
	case "mnt_id":
		f.MntID = w.int()
	case "ino":
		f.Inode = w.uint(10)
	case "lock":
		l, err := ParseLock(w.rest)
		if err != nil {
			w.err = err
		}
		f.Locks = append(f.Locks, l)
	default:
		return false
	}
	return true
}

// parseEvents reads eventfd, epoll and signalfd; false: not such a key.
func (f *Fdinfo) parseEvents(key []byte, w *words) bool {
	switch string(key) {
	case "eventfd-count":
		f.eventFD().Count = w.uint(16)
	case "eventfd-id":
		f.eventFD().ID = w.int()
	case "eventfd-semaphore":
		f.eventFD().Semaphore, f.eventFD().Told = w.uint32(10) != 0, true
	case "tfd":
		f.Epoll = append(f.Epoll, parseEpollTarget(w))
	case "sigmask":
		mask := w.uint(16)
		f.SigMask = &mask
	default:
		return false
	}
	return true
}

func (f *Fdinfo) eventFD() *EventFD {
	if f.EventFD == nil {
		f.EventFD = new(EventFD)
	}
	return f.EventFD
}

// parseEpollTarget reads what follows "tfd:".
//
// Source: fs/eventpoll.c, ep_show_fdinfo.
func parseEpollTarget(w *words) EpollTarget {
	var t EpollTarget
	t.FD = w.int()
	t.Events = uint32(w.taggedUint("events:", 16))
	t.Data = w.taggedUint("data:", 16)
	b := w.tagged("pos:")
	pos, ok := parseInt(b)
	if !ok {
		w.fail(b, errNumber)
	}
	t.Pos = pos
	t.Inode = w.taggedUint("ino:", 16)
	t.Device = KernelDevice(w.taggedUint("sdev:", 16))
	return t
}

// parseInotify reads what follows "inotify": every number in hex, the watch
// descriptor too.
//
// Source: fs/notify/fdinfo.c, inotify_fdinfo and show_mark_fhandle.
func (f *Fdinfo) parseInotify(w *words) {
	var i InotifyWatch
	i.WD = int(int32(w.taggedUint("wd:", 16)))
	i.Inode = w.taggedUint("ino:", 16)
	i.Device = KernelDevice(w.taggedUint("sdev:", 16))
	i.Mask = uint32(w.taggedUint("mask:", 16))
	i.Ignored = uint32(w.taggedUint("ignored_mask:", 16))
	if w.more() {
		size := w.taggedUint("fhandle-bytes:", 16)
		i.HandleType = int32(w.taggedUint("fhandle-type:", 16))
		hex := w.tagged("f_handle:")
		i.Handle = make([]byte, len(hex)/2)
		for k := range i.Handle {
			v, ok := parseUint(hex[2*k:2*k+2], 16)
			if !ok {
				w.fail(hex, errNumber)
			}
			i.Handle[k] = byte(v)
		}
		if w.err == nil && (len(hex)%2 != 0 || uint64(len(i.Handle)) != size) {
			w.err = badText(hex, errShort)
		}
	}
	f.Inotify = append(f.Inotify, i)
}

// parseTimer reads a timerfd; false: not such a key.
//
// Source: fs/timerfd.c, timerfd_show.
func (f *Fdinfo) parseTimer(key []byte, w *words) bool {
	switch string(key) {
	case "clockid":
		f.timer().ClockID = w.int()
	case "ticks":
		f.timer().Ticks = w.uint(10)
	case "settime flags":
		f.timer().SettimeFlags = w.uint32(8)
	case "it_value":
		f.timer().ValueNanos = parseTimespec(w)
	case "it_interval":
		f.timer().IntervalNanos = parseTimespec(w)
	default:
		return false
	}
	return true
}

func (f *Fdinfo) timer() *TimerFD {
	if f.Timer == nil {
		f.Timer = new(TimerFD)
	}
	return f.Timer
}

// parseTimespec reads "(SECONDS, NANOSECONDS)".
func parseTimespec(w *words) uint64 {
	a := w.next()
	b := w.next()
	sec, ok1 := parseUint(bytes.Trim(a, "(,"), 10)
	nsec, ok2 := parseUint(bytes.TrimSuffix(b, []byte{')'}), 10)
	if !ok1 || !ok2 || nsec >= 1e9 || sec > math.MaxUint64/1_000_000_000-1 {
		w.fail(a, errNumber)
		return 0
	}
	return sec*1e9 + nsec
}

// parseKind reads the kinds that have a few numbers only; false: not such a
// key.
func (f *Fdinfo) parseKind(key []byte, w *words) bool {
	switch string(key) {
	case "Pid":
		f.pidFD().PID = w.int()
	case "NSpid":
		f.pidFD().NSPID = parseInts(w)
	case "tty-index":
		n := w.int()
		f.TTYIndex = &n
	case "pending":
		f.userfault().Pending = w.uint(10)
	case "total":
		f.userfault().Total = w.uint(10)
	case "API":
		f.userfault().parseAPI(w)
	case "scm_fds":
		f.SCMFiles, f.HasSCMFiles = w.int(), true
	default:
		return false
	}
	return true
}

func (f *Fdinfo) pidFD() *PIDFD {
	if f.PIDFD == nil {
		f.PIDFD = new(PIDFD)
	}
	return f.PIDFD
}

func (f *Fdinfo) userfault() *UserfaultFD {
	if f.Userfault == nil {
		f.Userfault = new(UserfaultFD)
	}
	return f.Userfault
}

// parseAPI reads "aa:0:1ff".
//
// Source: fs/userfaultfd.c, userfaultfd_show_fdinfo.
func (u *UserfaultFD) parseAPI(w *words) {
	b := w.next()
	api, rest, _ := bytes.Cut(b, []byte{':'})
	flags, features, _ := bytes.Cut(rest, []byte{':'})
	a, ok1 := parseUint(api, 16)
	fl, ok2 := parseUint(flags, 16)
	fe, ok3 := parseUint(features, 16)
	if !ok1 || !ok2 || !ok3 {
		w.fail(b, errNumber)
		return
	}
	u.API, u.Flags, u.Features = a, uint32(fl), fe
}

// Fdinfo reads /proc/PID/fdinfo/FD.
func (r *Reader) Fdinfo(pid, fd int) (Fdinfo, error) {
	return parsed(r, r.processPath(pid, "fdinfo/"+strconv.Itoa(fd)), ParseFdinfo)
}

// TaskFdinfo reads /proc/PID/task/TID/fdinfo/FD, for threads with a table of
// their own (unshare(CLONE_FILES)).
func (r *Reader) TaskFdinfo(pid, tid, fd int) (Fdinfo, error) {
	return parsed(r, r.taskPath(pid, tid, "fdinfo/"+strconv.Itoa(fd)), ParseFdinfo)
}
