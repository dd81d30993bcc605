// Package image says what a frozen process tree is: values, and their
// versioned encoding.
//
// All process and thread numbers are those of the tree's own PID namespace,
// or the host's where the tree has none. Indexes refer to the lists of the
// Tree; -1 means none.
package image

import "github.com/wakepoint/wakepoint/internal/abi"

// Version is the version of the encoding. A reader refuses all others.
const Version = 1

// Tree is everything but the contents of memory and files.
type Tree struct {
	Version      int           `cbor:"version"`
	Arch         string        `cbor:"arch"`
	HostPIDs     bool          `cbor:"host_pids"`
	Command      int           `cbor:"command"` // the workload's first process
	Clock        Clock         `cbor:"clock"`
	Vdso         []byte        `cbor:"vdso"`
	Processes    []Process     `cbor:"processes"` // parents before children
	Spaces       []Space       `cbor:"spaces"`
	Tables       []Table       `cbor:"tables"`
	Descriptions []Description `cbor:"descriptions"`
	Objects      []Object      `cbor:"objects"`
	Terminal     *Terminal     `cbor:"terminal,omitempty"`
	HostIPC      bool          `cbor:"host_ipc"`
}

// Clock is what the tree's clocks showed when it was frozen, in nanoseconds.
type Clock struct {
	Realtime  int64 `cbor:"realtime"`
	Monotonic int64 `cbor:"monotonic"` // in the tree's time namespace
	Boottime  int64 `cbor:"boottime"`
}

// Process is one process, or a zombie.
type Process struct {
	PID        int    `cbor:"pid"`
	PPID       int    `cbor:"ppid"` // 0: its parent is outside the tree (the init)
	PGID       int    `cbor:"pgid"` // 0: outside the tree
	SID        int    `cbor:"sid"`  // 0: outside the tree
	ExitSignal int    `cbor:"exit_signal"`
	Zombie     bool   `cbor:"zombie,omitempty"`
	ExitCode   int    `cbor:"exit_code,omitempty"` // of a zombie, as wait(2) encodes it
	Name       string `cbor:"name"`
	StopSignal int    `cbor:"stop_signal,omitempty"` // in a group-stop by this signal
	StopHeard  bool   `cbor:"stop_heard,omitempty"`  // its parent has waited for that
	Space      int    `cbor:"space"`
	Table      int    `cbor:"table"`

	Actions     []Action    `cbor:"actions"` // signals 1..64 that are not default
	Pending     [][]byte    `cbor:"pending"` // siginfo of the process's queue
	Itimers     [3]Interval `cbor:"itimers"`
	Timers      []Timer     `cbor:"timers"`
	Cwd         string      `cbor:"cwd"`
	Root        string      `cbor:"root"`
	Umask       int         `cbor:"umask"`
	Limits      [16]Limit   `cbor:"limits"`
	OOMScoreAdj int         `cbor:"oom_score_adj"`
	CoreFilter  int         `cbor:"core_filter"`
	Dumpable    int         `cbor:"dumpable"`
	Autogroup   int         `cbor:"autogroup,omitempty"`
	LockFuture  int         `cbor:"lock_future,omitempty"` // MCL_*, of mappings to come
	Subreaper   bool        `cbor:"subreaper"`             // of the first images; now one of Settings
	THPDisable  bool        `cbor:"thp_disable,omitempty"` // of the first images; now one of Settings
	Settings    [][4]int64  `cbor:"settings,omitempty"`    // arguments of prctl(2) to repeat
	Barriers    int         `cbor:"barriers,omitempty"`    // membarrier(2) commands that it registered for
	Threads     []Thread    `cbor:"threads"`               // the leader first
	SemUndo     bool        `cbor:"sem_undo,omitempty"`
}

// Thread is one thread.
type Thread struct {
	TID         int        `cbor:"tid"`
	Name        string     `cbor:"name"`
	Regs        []uint64   `cbor:"regs"`
	Float       []byte     `cbor:"float"`
	Mask        uint64     `cbor:"mask"`
	Pending     [][]byte   `cbor:"pending"`
	AltStack    AltStack   `cbor:"alt_stack"`
	RobustHead  uint64     `cbor:"robust_head"`
	RobustSize  uint64     `cbor:"robust_size"`
	Rseq        Rseq       `cbor:"rseq"`
	ClearTID    uint64     `cbor:"clear_tid"` // set_tid_address
	Sched       Sched      `cbor:"sched"`
	Creds       Creds      `cbor:"creds"`
	Slack       uint64     `cbor:"slack"` // timer slack, ns
	Ioprio      int        `cbor:"ioprio"`
	Parent      int        `cbor:"parent_death_signal"`
	Personality uint32     `cbor:"personality"`
	Restart     *Restart   `cbor:"restart,omitempty"`
	Settings    [][4]int64 `cbor:"settings,omitempty"`   // arguments of prctl(2) to repeat
	MemPolicy   []byte     `cbor:"mem_policy,omitempty"` // set_mempolicy(2): the mode in 8 bytes, then the nodes
}

// Restart says how an interrupted call with a time-out goes on: by priming
// the kernel's restart block with the time that was left, where the result
// register asks for that, else by being made again.
type Restart struct {
	Call int       `cbor:"call"`
	Args [6]uint64 `cbor:"args"`
	Left int64     `cbor:"left"` // ns of its time-out, -1: it has none
}

// Action is a signal's disposition (struct kernel_sigaction, 32 bytes).
type Action struct {
	Signal int    `cbor:"signal"`
	Raw    []byte `cbor:"raw"`
}

// Interval is a struct itimerval or itimerspec; units by context.
type Interval struct {
	Value, Every [2]int64
}

// After is what is left of it when ns have passed; unit is the number of
// fractions in a second. What has come due in the meantime comes at once.
func (i Interval) After(ns, unit int64) Interval {
	if i.Value == [2]int64{} {
		return i
	}
	left := max(i.Value[0]*unit+i.Value[1]-ns/(1e9/unit), 1)
	i.Value = [2]int64{left / unit, left % unit}
	return i
}

// Missed is how often a periodic one of seconds and nanoseconds has come due
// when ns have passed, 0 for any other.
func (i Interval) Missed(ns int64) int64 {
	value, every := i.Value[0]*1e9+i.Value[1], i.Every[0]*1e9+i.Every[1]
	if value == 0 || every == 0 || ns < value {
		return 0
	}
	return (ns-value)/every + 1
}

// Timer is a POSIX timer.
type Timer struct {
	ID      int      `cbor:"id"`
	Clock   int      `cbor:"clock"`
	Notify  int      `cbor:"notify"` // SIGEV_*
	Signal  int      `cbor:"signal"`
	Value   uint64   `cbor:"value"` // sigev_value
	Target  int      `cbor:"target"`
	Setting Interval `cbor:"setting"` // seconds, nanoseconds
	Overrun int      `cbor:"overrun"`
}

// Limit is one resource limit.
type Limit struct {
	Soft, Hard uint64
}

// AltStack is a stack_t.
type AltStack struct {
	SP    uint64 `cbor:"sp"`
	Flags uint32 `cbor:"flags"`
	Size  uint64 `cbor:"size"`
}

// Rseq is a restartable-sequence registration; Pointer 0: none.
type Rseq struct {
	Pointer   uint64 `cbor:"pointer"`
	Size      uint32 `cbor:"size"`
	Signature uint32 `cbor:"signature"`
}

// Sched is how a thread is scheduled (struct sched_attr) and where.
type Sched struct {
	Policy   uint32   `cbor:"policy"`
	Flags    uint64   `cbor:"flags"`
	Nice     int32    `cbor:"nice"`
	Priority uint32   `cbor:"priority"`
	Runtime  uint64   `cbor:"runtime"`
	Deadline uint64   `cbor:"deadline"`
	Period   uint64   `cbor:"period"`
	Affinity []uint64 `cbor:"affinity"`
}

// Creds is who a thread is.
type Creds struct {
	UID, GID    [4]uint32 // real, effective, saved, file system
	Groups      []uint32
	Inheritable uint64
	Permitted   uint64
	Effective   uint64
	Bounding    uint64
	Ambient     uint64
	NoNewPrivs  bool
	SecureBits  uint32
	KeepCaps    bool
}

// Space is one address space; processes that share it name the same one.
type Space struct {
	Section string `cbor:"section"` // where its private pages lie; the offset is the address
	Areas   []Area `cbor:"areas"`
	Layout  Layout `cbor:"layout"`
	Guards  []Span `cbor:"guards,omitempty"` // guard pages
	Exe     string `cbor:"exe"`
	// ExeObject is 1 more than the index into Tree.Objects of an executable
	// that has no name any more.
	ExeObject int `cbor:"exe_object,omitempty"`
}

// Span is a range of addresses.
type Span struct {
	Start, End abi.Addr
}

// Layout is what PR_SET_MM_MAP sets.
type Layout struct {
	StartCode, EndCode, StartData, EndData uint64
	StartBrk, Brk, StartStack              uint64
	ArgStart, ArgEnd, EnvStart, EnvEnd     uint64
	Auxv                                   []byte
}

// AreaKind says what backs an area.
type AreaKind int

// Kinds of area.
const (
	Anonymous AreaKind = iota // private, zero-filled
	PrivateFile
	SharedFile   // a file of the file system
	SharedObject // memfd, shared anonymous, System V
	Vdso
	Vvar
	VvarClock
)

// Area is one mapping.
type Area struct {
	Start, End  abi.Addr
	Kind        AreaKind
	Prot        uint32 // PROT_*
	GrowsDown   bool
	NoReserve   bool
	Locked      bool
	LockOnFault bool
	Advice      []int // madvise values to repeat
	Blank       bool  // droppable or wipe-on-fork: comes back as zeros
	Droppable   bool
	Name        string // PR_SET_VMA_ANON_NAME
	Path        string
	Offset      uint64
	Object      int   // index into Tree.Objects, for SharedObject and deleted files
	Size        int64 // of the mapped file, at the checkpoint
	ModTime     int64 // of the mapped file, ns
	MayWrite    bool  // a shared mapping whose descriptor was open for writing
	Heap        bool
	Executable  bool
}

// ObjectKind says what a shared object is.
type ObjectKind int

// Kinds of shared object.
const (
	SharedMemory ObjectKind = iota // MAP_SHARED|MAP_ANONYMOUS
	Memfd
	SysV
	DeletedFile // a file without a name, with its contents
)

// Object is memory or a file that has no name in the file system, with its
// contents in a section of its own.
type Object struct {
	Kind    ObjectKind `cbor:"kind"`
	Section string     `cbor:"section"`
	Size    int64      `cbor:"size"`
	Name    string     `cbor:"name"` // of a memfd; the former path of a deleted file
	Seals   int        `cbor:"seals"`
	Mode    uint32     `cbor:"mode"`
	UID     uint32     `cbor:"uid"`
	GID     uint32     `cbor:"gid"`
	Key     int32      `cbor:"key"` // System V
	ID      int        `cbor:"id"`
	ModTime int64      `cbor:"mod_time"`
}

// Table is one descriptor table.
type Table struct {
	Entries []Entry `cbor:"entries"` // by ascending number
}

// Entry is one descriptor.
type Entry struct {
	FD          int  `cbor:"fd"`
	CloseOnExec bool `cbor:"close_on_exec"`
	Description int  `cbor:"description"`
}

// Terminal is the controlling terminal of the workload.
type Terminal struct {
	Termios []byte    `cbor:"termios"` // struct termios2
	Size    [4]uint16 `cbor:"size"`    // struct winsize
	Session int       `cbor:"session"`
	Group   int       `cbor:"group"` // foreground process group
	Path    string    `cbor:"path"`
	Input   []byte    `cbor:"input,omitempty"`
}
