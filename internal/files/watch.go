package files

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/fanotify"
)

const (
	writtenMax = 65536 // files that are followed because they were written and closed
	goneMax    = 4096  // names that are known not to be there
	sweepMin   = 4096  // files at which a Watch looks for those that were deleted
	eventsBad  = 256   // events in a row that cannot be read
	// watchRest is how long a Watch lets events gather before it reads them:
	// the kernel joins those of one file meanwhile.
	watchRest = 20 * time.Millisecond
)

// ErrNoWatch says that this process or kernel cannot watch mounts.
var ErrNoWatch = errors.New("files that are written and closed cannot be watched")

// Written is a file that was written and closed.
type Written struct {
	Path     string // when the event was read; it may have been renamed since
	Dev, Ino uint64
	Handle   []byte // of the file, see handleOf; nil: it has none
}

// Batch is what a Watch has collected and nobody has forgotten yet.
type Batch struct {
	Files []Written
	Gone  []string // names of files that were written and deleted, oldest first
	until uint64
}

// Of says whose files are watched.
type Of struct {
	PID int // of whose mount namespace
	// Tree: only what PID and its descendants write counts, since others share
	// the mounts.
	Tree   bool
	Except []string // never, nor what is below
}

// Watch collects the names of files that are written and closed, by fanotify
// marks on mounts (fanotify(7), FAN_MARK_MOUNT and FAN_CLOSE_WRITE): what goes
// by other mounts of the same file system is not seen, so that a mount namespace
// of its own is a workload's alone.
//
// What was closed before Collect was called is in what it returns; where that
// cannot be promised, Notes says so. It takes memory for writtenMax files at most.
//
// BUG: a file that is only renamed, linked, deleted or cut by its name
// (truncate(2)) makes no event: unless it was written once it is not known.
type Watch struct {
	of   Of
	file *os.File // the fanotify group
	fds  *os.File // /proc/self/fd
	conn syscall.RawConn
	stop chan struct{}
	done chan struct{}

	mu      sync.Mutex // guards what follows
	buf     []byte     // for events
	name    []byte     // for a link
	serial  uint64     // of events
	files   map[fileName]fileSeen
	gone    map[string]uint64
	sweepAt int
	kin     *kin
	mounts  string   // mountinfo when the marks were made
	blind   []string // mount points that could not be marked
	missed  missed
}

// fileName is a file under one of its names.
type fileName struct {
	path     string
	dev, ino uint64
}

type fileSeen struct {
	serial uint64
	handle []byte
}

// missed is what a Watch knows to have missed.
type missed struct {
	lost    bool           // the kernel dropped events
	most    map[string]int // files beyond the limit, by directory
	unknown int            // files of processes that had ended
	example string         // one of these
}

// NewWatch begins to watch. group is a group that is marked already, which
// belongs to the Watch from then on, or -1. ErrNoWatch where that is not possible.
func NewWatch(of Of, group int) (*Watch, error) {
	w, err := newWatch(of, group)
	if err != nil {
		return nil, err
	}
	if err := w.Mark(); err != nil {
		return nil, errors.Join(err, w.file.Close(), w.fds.Close())
	}
	go w.read()
	return w, nil
}

// newWatch makes a Watch that nobody reads.
func newWatch(of Of, group int) (*Watch, error) {
	if group < 0 {
		var err error
		if group, err = fanotify.Open(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoWatch, err)
		}
	}
	w := &Watch{
		of: of, file: os.NewFile(uintptr(group), "fanotify"), stop: make(chan struct{}), done: make(chan struct{}),
		buf: make([]byte, fanotify.BufferSize), name: make([]byte, unix.PathMax),
		files: map[fileName]fileSeen{}, gone: map[string]uint64{}, sweepAt: sweepMin,
		kin: newKin(of.PID), missed: missed{most: map[string]int{}},
	}
	var err error
	if w.fds, err = os.Open("/proc/self/fd"); err == nil {
		w.conn, err = w.file.SyscallConn()
	}
	if err != nil {
		w.file.Close()
		return nil, err
	}
	return w, nil
}

// Mark marks the mounts that have come since it was called last. What was
// written on such a mount before is not seen.
func (w *Watch) Mark() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", w.of.PID))
	if err != nil || string(text) == w.mounts {
		return err
	}
	cerr := w.conn.Control(func(group uintptr) { w.blind, err = fanotify.MarkAll(int(group), w.of.PID, text) })
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoWatch, err)
	}
	w.mounts = string(text)
	return cerr
}

// End takes the marks away, for nobody else either, and closes the Watch.
func (w *Watch) End() error {
	err := w.conn.Control(func(group uintptr) { _ = fanotify.Flush(int(group)) })
	return errors.Join(err, w.Close())
}

// Close ends the watching. Where the group is another's too its events wait.
func (w *Watch) Close() error {
	close(w.stop)
	err := errors.Join(w.file.Close(), w.fds.Close())
	<-w.done
	return err
}

// read takes events in until Close.
func (w *Watch) read() {
	defer close(w.done)
	rest := watchRest
	if w.of.Tree {
		rest = 0 // who wrote must be looked up before it has ended
	}
	for {
		err := w.conn.Read(func(fd uintptr) bool { return w.drain(int(fd)) > 0 })
		if err != nil {
			return
		}
		select {
		case <-w.stop:
			return
		case <-time.After(rest):
		}
	}
}

// Collect returns everything that was closed until now and is not forgotten.
func (w *Watch) Collect() *Batch {
	_ = w.conn.Control(func(fd uintptr) { w.drain(int(fd)) })
	w.mu.Lock()
	defer w.mu.Unlock()
	b := &Batch{until: w.serial, Files: make([]Written, 0, len(w.files))}
	for n, s := range w.files {
		b.Files = append(b.Files, Written{Path: n.path, Dev: n.dev, Ino: n.ino, Handle: s.handle})
	}
	for p := range w.gone {
		b.Gone = append(b.Gone, p)
	}
	slices.SortFunc(b.Gone, func(p, q string) int { return cmp.Compare(w.gone[p], w.gone[q]) })
	return b
}

// Forget says that a generation with what b holds was committed.
func (w *Watch) Forget(b *Batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, s := range w.files {
		if s.serial <= b.until {
			delete(w.files, n)
		}
	}
	for p, serial := range w.gone {
		if serial <= b.until {
			delete(w.gone, p)
		}
	}
	w.sweepAt = max(sweepMin, 2*len(w.files))
}

// drain reads all events that wait, and returns how many there were.
func (w *Watch) drain(group int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kin.begin()
	for count, bad := 0, 0; ; {
		n, err := fanotify.Read(group, w.buf, w.event)
		switch {
		case errors.Is(err, unix.EAGAIN), err == nil && n == 0, bad > eventsBad:
			return count
		case err != nil: // that file could not be opened, and its event is gone
			w.missed.lost = true
			bad++
		}
		count += n
	}
}

// event takes one event in.
func (w *Watch) event(e fanotify.Event) {
	w.missed.lost = w.missed.lost || e.Lost
	if e.FD < 0 {
		return
	}
	defer unix.Close(e.FD)
	var st unix.Stat_t
	path, err := w.link(e.FD)
	if err != nil || unix.Fstat(e.FD, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	path = nameOf(path, &st)
	if !clean(path) || underAny(path, w.of.Except) {
		return
	}
	if w.of.Tree && !w.ours(e.PID, path) {
		return
	}
	w.serial++
	if st.Nlink == 0 {
		w.deleted(path, w.serial)
		return
	}
	n := fileName{path, uint64(st.Dev), st.Ino}
	h := handleOf(e.FD, "")
	if _, ok := w.files[n]; !ok && len(w.files) >= w.sweepAt {
		w.sweep()
		if len(w.files) >= writtenMax {
			w.missed.beyond(path)
			return
		}
	}
	w.files[n] = fileSeen{w.serial, h}
}

// link is the link of a descriptor of ours.
func (w *Watch) link(fd int) (string, error) {
	n, err := unix.Readlinkat(int(w.fds.Fd()), strconv.Itoa(fd), w.name)
	if err != nil {
		return "", err
	}
	return string(w.name[:n]), nil
}

// nameOf is a file's name by the link of a descriptor of it: of one whose name
// was taken away, the name that it had.
func nameOf(link string, st *unix.Stat_t) string {
	name, cut := strings.CutSuffix(link, " (deleted)")
	if !cut {
		return link
	}
	var at unix.Stat_t
	if unix.Lstat(link, &at) == nil && at.Dev == st.Dev && at.Ino == st.Ino {
		return link // that is its name
	}
	return name
}

// deleted notes a name that a file had. The oldest are dropped.
func (w *Watch) deleted(path string, serial uint64) {
	w.gone[path] = serial
	if len(w.gone) <= 2*goneMax {
		return
	}
	serials := make([]uint64, 0, len(w.gone))
	for _, s := range w.gone {
		serials = append(serials, s)
	}
	slices.Sort(serials)
	from := serials[len(serials)-goneMax]
	for p, s := range w.gone {
		if s < from {
			delete(w.gone, p)
		}
	}
}

// sweep drops the files that were deleted since they were seen, so that a
// program that makes and deletes files does not fill the memory.
func (w *Watch) sweep() {
	f := newFinder()
	for n, s := range w.files {
		if x := (Written{n.path, n.dev, n.ino, s.handle}); !f.is(x) && f.other(x) == "" {
			delete(w.files, n)
			w.deleted(n.path, s.serial)
		}
	}
	w.sweepAt = min(max(sweepMin, 2*len(w.files)), writtenMax)
}

// beyond counts a file that is one too many.
func (m *missed) beyond(path string) {
	dir := filepath.Dir(path)
	if _, ok := m.most[dir]; ok || len(m.most) < goneMax {
		m.most[dir]++
	}
}

// most is the directory with the most, "" when there is none.
func most(count map[string]int) string {
	dir := ""
	for d, n := range count {
		if dir == "" || n > count[dir] || n == count[dir] && d < dir {
			dir = d
		}
	}
	return dir
}

// Notes says what the watch does not see, for the workload's owner.
func (w *Watch) Notes() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, m := range w.blind {
		out = append(out, fmt.Sprintf("files that it writes and closes below %s are not captured, since that mount cannot be watched; `--data` captures a directory whole", m))
	}
	if w.missed.lost {
		out = append(out, "the kernel could not name all files that it wrote and closed: one that is not open may be missing in its generations; `--data DIR` captures a directory whole")
	}
	if dir := most(w.missed.most); dir != "" {
		out = append(out, tooMany(dir))
	}
	if m := w.missed; m.unknown > 0 {
		out = append(out, fmt.Sprintf("files were written by processes that ended before it was known whether they are its own (%d, last %s): they are not captured; `--data DIR` captures a directory whole", m.unknown, m.example))
	}
	return out
}

// tooMany says that more files were written than are followed.
func tooMany(dir string) string {
	return fmt.Sprintf("it has written and closed more than %d files, most of the others in %s, which are not captured; `--data %s` captures that directory whole", writtenMax, dir, dir)
}
