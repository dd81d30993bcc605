package image

// Description is one open file description. Kind says which of the pointers
// is set, beside the fields that all share.
type Description struct {
	Kind   Kind   `cbor:"kind"`
	Flags  int    `cbor:"flags"` // as F_GETFL reports them
	Pos    int64  `cbor:"pos"`
	Path   string `cbor:"path,omitempty"`
	Cgroup string `cbor:"cgroup,omitempty"` // for a file of its process's own control group: a line of /proc/PID/cgroup
	Owner  Owner  `cbor:"owner"`            // F_GETOWN
	Device uint64 `cbor:"device,omitempty"`
	Object int    `cbor:"object"` // deleted files and memfds
	Locks  []Lock `cbor:"locks,omitempty"`
	Size   int64  `cbor:"size,omitempty"`

	Pipe     *Pipe     `cbor:"pipe,omitempty"`
	Event    *Event    `cbor:"event,omitempty"`
	Timerfd  *Timerfd  `cbor:"timerfd,omitempty"`
	Mask     uint64    `cbor:"mask,omitempty"` // signalfd
	Epoll    []Watch   `cbor:"epoll,omitempty"`
	Inotify  []Inotify `cbor:"inotify,omitempty"`
	Overflow bool      `cbor:"overflow,omitempty"` // of an inotify: events that waited in it are lost
	Socket   *Socket   `cbor:"socket,omitempty"`
	Target   int       `cbor:"target,omitempty"` // pidfd
	Terminal *Terminal `cbor:"terminal,omitempty"`
}

// Kind is what a description refers to.
type Kind string

// Kinds of description.
const (
	Regular     Kind = "file"
	Directory   Kind = "directory"
	Device      Kind = "device"
	PipeEnd     Kind = "pipe"
	FIFO        Kind = "fifo"
	Eventfd     Kind = "eventfd"
	TimerfdKind Kind = "timerfd"
	Signalfd    Kind = "signalfd"
	EpollKind   Kind = "epoll"
	InotifyKind Kind = "inotify"
	SocketKind  Kind = "socket"
	Pidfd       Kind = "pidfd"
	PtySlave    Kind = "pty"
	PtyMaster   Kind = "pty master"
	MemfdKind   Kind = "memfd"
	PathOnly    Kind = "path"
)

// Owner is who gets SIGIO.
type Owner struct {
	Type int `cbor:"type"`
	PID  int `cbor:"pid"`
	Sig  int `cbor:"sig"`
}

// Lock is a flock or an open-file-description lock, or a process's record lock.
type Lock struct {
	Class string `cbor:"class"` // FLOCK, POSIX, OFDLCK
	Write bool   `cbor:"write"`
	PID   int    `cbor:"pid"`
	Start int64  `cbor:"start"`
	End   int64  `cbor:"end"` // -1: to the end of the file
}

// Pipe is one end of a pipe or FIFO; ends with the same ID belong together.
type Pipe struct {
	ID   uint64 `cbor:"id"`
	Size int    `cbor:"size"`           // capacity, bytes
	Data []byte `cbor:"data,omitempty"` // at the first end that names the pipe
	// Packets are the lengths of the packets in Data (O_DIRECT, pipe(7)); empty
	// where it is a plain stream.
	Packets []int  `cbor:"packets,omitempty"`
	Mode    uint32 `cbor:"mode,omitempty"`
	UID     uint32 `cbor:"uid,omitempty"`
	GID     uint32 `cbor:"gid,omitempty"`
}

// Event is an eventfd.
type Event struct {
	Count     uint64 `cbor:"count"`
	Semaphore bool   `cbor:"semaphore"`
}

// Timerfd is a timerfd with the time left.
type Timerfd struct {
	Clock   int      `cbor:"clock"`
	Ticks   uint64   `cbor:"ticks"`
	Settime int      `cbor:"settime"`
	Setting Interval `cbor:"setting"`
}

// Watch is one registration of an epoll. Description is the watched one; FD
// and Table name the number under which it was registered.
type Watch struct {
	FD          int    `cbor:"fd"`
	Table       int    `cbor:"table"`
	Description int    `cbor:"description"`
	Events      uint32 `cbor:"events"`
	Data        uint64 `cbor:"data"`
}

// Inotify is one watch.
type Inotify struct {
	WD   int    `cbor:"wd"`
	Mask uint32 `cbor:"mask"`
	Path string `cbor:"path"`
}

// Socket is one socket.
type Socket struct {
	Family    int      `cbor:"family"`
	Type      int      `cbor:"type"`
	Protocol  int      `cbor:"protocol"`
	Cookie    uint64   `cbor:"cookie"` // names it within the image (inode)
	Listening bool     `cbor:"listening"`
	Backlog   int      `cbor:"backlog"`
	Reset     bool     `cbor:"reset"` // an established connection: comes back reset
	Connected bool     `cbor:"connected"`
	Bound     bool     `cbor:"bound"`
	Local     []byte   `cbor:"local,omitempty"` // raw sockaddr
	Peer      []byte   `cbor:"peer,omitempty"`  // raw sockaddr
	PeerID    uint64   `cbor:"peer_id,omitempty"`
	Mode      uint32   `cbor:"mode,omitempty"` // of a socket file
	UID       uint32   `cbor:"uid,omitempty"`
	GID       uint32   `cbor:"gid,omitempty"`
	Path      string   `cbor:"path,omitempty"` // where a socket file lies, absolute
	Dirs      []Dir    `cbor:"dirs,omitempty"` // its directories, outermost first
	Options   []Option `cbor:"options"`
	Queue     []Packet `cbor:"queue,omitempty"` // received, not yet read
	Shutdown  int      `cbor:"shutdown,omitempty"`
	Creds     [3]int   `cbor:"creds,omitempty"`  // SO_PEERCRED of a UNIX socket: process (0: gone), user, group
	By        [3]int   `cbor:"by,omitempty"`     // a process that has the socket, its user and group
	Groups    []int    `cbor:"groups,omitempty"` // of a netlink socket
	Hung      bool     `cbor:"hung,omitempty"`   // its peer had closed it
	Error     int      `cbor:"error,omitempty"`
	Accept    []uint64 `cbor:"accept,omitempty"` // connections waiting to be accepted
}

// Dir is a directory to be made again if it is missing.
type Dir struct {
	Path     string
	Mode     uint32
	UID, GID uint32
}

// Option is a socket option with its raw value.
type Option struct {
	Level int    `cbor:"level"`
	Name  int    `cbor:"name"`
	Value []byte `cbor:"value"`
}

// Packet is data in a socket's queue.
type Packet struct {
	Data         []byte `cbor:"data"`
	From         []byte `cbor:"from,omitempty"` // raw sockaddr
	Descriptions []int  `cbor:"descriptions,omitempty"`
}
