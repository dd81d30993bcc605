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
	dir  *object.Dir
	keys keyring

	mu   sync.Mutex // guards open and the counts of users in it
	open map[PackID]*openPack
}

type openPack struct {
	f     disk.File
	seal  *packSeal
	users int
}

func newPackReader(dir *object.Dir, keys keyring) *packReader {
	return &packReader{dir: dir, keys: keys, open: map[PackID]*openPack{}}
}

// readAt fills p from a pack whose header was checked, and returns what breaks
// the seals in it.
func (r *packReader) readAt(p []byte, id PackID, off int64) (*packSeal, error) {
	s, n, err := r.readSome(p, id, off)
	if err == nil && n < len(p) {
		err = lost(id.file(), off, io.ErrUnexpectedEOF)
	}
	return s, err
}

// readSome is readAt that may end early at the end of the pack.
func (r *packReader) readSome(p []byte, id PackID, off int64) (*packSeal, int, error) {
	o, err := r.use(id)
	if err != nil {
		return nil, 0, err
	}
	defer r.done(o)
	n, err := o.f.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, lost(id.file(), off, err)
	}
	return o.seal, n, nil
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
	s, err := checkPackHead(head[:n], r.keys, id)
	if err != nil {
		f.Close()
		if errors.Is(err, ErrVersion) {
			return nil, err
		}
		return nil, &DamageError{Pack: id.file(), What: err.Error()}
	}
	o := &openPack{f: f, seal: s, users: 1}
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

// blob reads one piece of a blob.
func (r *packReader) blob(e entry) ([]byte, error) {
	b := make([]byte, e.cost())
	s, err := r.readAt(b, e.pack, int64(e.off))
	if err != nil {
		return nil, err
	}
	var d decoder
	p, err := s.openFrame(b[frameHead:frameHead], b, e.off, kindBlob)
	if err == nil {
		b, err = d.append(nil, p, blobPiece)
	}
	return b, e.damaged(err)
}

// damaged says where the damage is that an error found.
func (p place) damaged(err error) error {
	if err == nil || errors.Is(err, ErrVersion) {
		return err
	}
	return &DamageError{Pack: p.pack.file(), Offset: int64(p.off), What: err.Error()}
}

// nodes reads tree nodes through a window, as nodes of one tree lie side by
// side. One goroutine at a time may use it.
type nodes struct {
	r   *packReader
	own *packWriter // where the draft's own nodes lie; nil for a reader

	win     []byte
	winPack PackID
	winOff  int64
	winSeal *packSeal
	own1    []byte // one frame of the draft's own
	plain   []byte // one payload
}

const (
	nodeWindow = 32 << 10
	nodeBehind = 8 << 10 // children lie before their parent
)

// read reads the node of a level; the second copy where the first is damaged.
func (s *nodes) read(e place, level int) (*node, error) {
	n, err := s.first(e, level)
	if err == nil || !errors.Is(err, ErrDamaged) || s.own.has(e.pack) {
		return n, err
	}
	n, cerr := s.second(e, level)
	if cerr != nil {
		return nil, err
	}
	return n, nil
}

// first reads the node where it lies.
func (s *nodes) first(e place, level int) (*node, error) {
	seal, frame, err := s.frame(e)
	if err != nil {
		return nil, err
	}
	if frame[1] != codecRaw {
		return nil, e.damaged(errors.New("node: encoded"))
	}
	if s.plain == nil {
		s.plain = make([]byte, 0, nodeMax)
	}
	p, err := seal.openFrame(s.plain[:0], frame, e.off, kindNode)
	if err != nil {
		return nil, e.damaged(err)
	}
	return nodeAt(e, level, p.data)
}

// second reads the copy of the node.
func (s *nodes) second(e place, level int) (*node, error) {
	b, err := s.r.copyOf(e, e.pack.Generation())
	if err != nil {
		return nil, err
	}
	return nodeAt(e, level, b)
}

// nodeAt decodes a node that lies, or lay, at a place.
func nodeAt(e place, level int, b []byte) (*node, error) {
	n, err := decodeNode(b)
	if err == nil && n.level != level {
		err = errors.New("node: wrong level")
	}
	if err != nil {
		return nil, e.damaged(err)
	}
	n.orig, n.was = e, string(b)
	return n, nil
}

func (s *nodes) frame(e place) (*packSeal, []byte, error) {
	size := e.cost()
	if size > frameOverhead+nodeMax {
		return nil, nil, e.damaged(errors.New("node: too long"))
	}
	if s.own.has(e.pack) {
		if s.own1 == nil {
			s.own1 = make([]byte, frameOverhead+nodeMax)
		}
		seal, err := s.own.readAt(s.own1[:size], e.pack, int64(e.off))
		return seal, s.own1[:size], err
	}
	at := int64(e.off) - s.winOff
	if e.pack != s.winPack || at < 0 || at+size > int64(len(s.win)) {
		if s.win == nil {
			s.win = make([]byte, nodeWindow)
		}
		s.winPack, s.winOff = e.pack, max(0, int64(e.off)-nodeBehind)
		seal, n, err := s.r.readSome(s.win[:nodeWindow], e.pack, s.winOff)
		s.win, s.winSeal = s.win[:n], seal
		if err != nil {
			s.winPack = 0
			return nil, nil, err
		}
		at = int64(e.off) - s.winOff
		if at+size > int64(n) {
			return nil, nil, lost(e.pack.file(), int64(e.off), io.ErrUnexpectedEOF)
		}
	}
	return s.winSeal, s.win[at : at+size], nil
}
