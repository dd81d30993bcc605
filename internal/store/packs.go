package store

import (
	"errors"
	"io"
	"sync"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/object"
)

// openPacksMax bounds the packs that one reader keeps open.
const openPacksMax = 64

// packReader reads frames of committed packs. It may be used from any
// goroutine.
type packReader struct {
	dir *object.Dir
	id  workloadID

	mu   sync.Mutex // guards open and the counts of users in it
	open map[PackID]*openPack
}

type openPack struct {
	f     disk.File
	users int
}

func newPackReader(dir *object.Dir, id workloadID) *packReader {
	return &packReader{dir: dir, id: id, open: map[PackID]*openPack{}}
}

// readAt fills p from a pack whose header was checked.
func (r *packReader) readAt(p []byte, id PackID, off int64) error {
	n, err := r.readSome(p, id, off)
	if err == nil && n < len(p) {
		return lost(id.file(), off, io.ErrUnexpectedEOF)
	}
	return err
}

// readSome is readAt that may end early at the end of the pack.
func (r *packReader) readSome(p []byte, id PackID, off int64) (int, error) {
	o, err := r.use(id)
	if err != nil {
		return 0, err
	}
	defer r.done(o)
	n, err := o.f.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, lost(id.file(), off, err)
	}
	return n, nil
}

// use opens a pack, or finds it open. done ends the use.
func (r *packReader) use(id PackID) (*openPack, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.open[id]; o != nil {
		o.users++
		return o, nil
	}
	if len(r.open) >= openPacksMax {
		for other, o := range r.open {
			if o.users == 0 {
				o.f.Close()
				delete(r.open, other)
				break
			}
		}
	}
	f, err := r.dir.Open(id.String())
	if err != nil {
		return nil, lost(id.file(), 0, err)
	}
	head := make([]byte, packHeadSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		f.Close()
		return nil, lost(id.file(), 0, err)
	}
	if err := checkPackHead(head[:n], r.id, id); err != nil {
		f.Close()
		if errors.Is(err, ErrVersion) {
			return nil, err
		}
		return nil, &DamageError{Pack: id.file(), What: err.Error()}
	}
	o := &openPack{f: f, users: 1}
	r.open[id] = o
	return o, nil
}

func (r *packReader) done(o *openPack) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o.users--
}

// close closes all packs. Nobody may use any.
func (r *packReader) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, o := range r.open {
		o.f.Close()
		delete(r.open, id)
	}
}

// frame reads one frame and returns its payload.
func (r *packReader) frame(kind byte, e entry) ([]byte, error) {
	b := make([]byte, e.cost())
	if err := r.readAt(b, e.pack, int64(e.off)); err != nil {
		return nil, err
	}
	return openFrame(b, kind, e)
}

// openFrame is checkFrame that says where the damage is.
func openFrame(b []byte, kind byte, e entry) ([]byte, error) {
	p, err := checkFrame(b, kind, e)
	if err != nil && !errors.Is(err, ErrVersion) {
		err = &DamageError{Pack: e.pack.file(), Offset: int64(e.off), What: err.Error()}
	}
	return p, err
}

// nodes reads tree nodes through a window, as nodes of one tree lie side by
// side. One goroutine at a time may use it.
type nodes struct {
	r   *packReader
	own *packWriter // where the draft's own nodes lie; nil for a reader

	win     []byte
	winPack PackID
	winOff  int64
}

const (
	nodeWindow = 32 << 10
	nodeBehind = 8 << 10 // children lie before their parent
)

// read reads the node e of a level.
func (s *nodes) read(e entry, level int) (*node, error) {
	frame, err := s.frame(e)
	if err != nil {
		return nil, err
	}
	payload, err := openFrame(frame, kindNode, e)
	if err != nil {
		return nil, err
	}
	n, err := decodeNode(payload)
	if err == nil && n.level != level {
		err = errors.New("node: wrong level")
	}
	if err != nil {
		return nil, &DamageError{Pack: e.pack.file(), Offset: int64(e.off), What: err.Error()}
	}
	n.orig = e
	return n, nil
}

func (s *nodes) frame(e entry) ([]byte, error) {
	size := e.cost()
	if size > frameHead+nodeMax {
		return nil, &DamageError{Pack: e.pack.file(), Offset: int64(e.off), What: "node: too long"}
	}
	if s.own.has(e.pack) {
		b := make([]byte, size)
		return b, s.own.readAt(b, e.pack, int64(e.off))
	}
	at := int64(e.off) - s.winOff
	if e.pack != s.winPack || at < 0 || at+size > int64(len(s.win)) {
		if s.win == nil {
			s.win = make([]byte, nodeWindow)
		}
		s.winPack, s.winOff = e.pack, max(0, int64(e.off)-nodeBehind)
		n, err := s.r.readSome(s.win[:nodeWindow], e.pack, s.winOff)
		s.win = s.win[:n]
		if err != nil {
			s.winPack = 0
			return nil, err
		}
		at = int64(e.off) - s.winOff
		if at+size > int64(n) {
			return nil, lost(e.pack.file(), int64(e.off), io.ErrUnexpectedEOF)
		}
	}
	return s.win[at : at+size], nil
}
