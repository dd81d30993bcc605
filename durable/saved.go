package durable

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// saved is what lies on the disk beside the log.
type saved struct {
	fs   disk.FS
	dir  string
	id   identity
	kept int // generations

	once sync.Once    // for older
	keep sync.RWMutex // held while files are read that may be removed; taken before mu
	mu   sync.Mutex   // guards the rest
	list []generation // that can be recovered from, the newest first
	rest []uint64     // files that older looks at
	open map[uint64]disk.File
	size map[uint64]int64 // of files
	next uint64           // number of the next one; of whoever makes it
}

// Generation is a checkpoint that the database could go on from.
type Generation struct {
	Number   uint64
	Time     time.Time // when it was made, by Options.Clock; from 1677 to 2262, others are kept as the nearest of these
	Position uint64    // in the log, in bytes since its beginning
	Bytes    int64     // of all that it needs, log aside
}

// Generations lists those that are kept, the newest first.
func (db *DB) Generations() []Generation {
	out := []Generation{}
	for _, g := range db.saved.generations() {
		out = append(out, Generation{g.number, g.made, uint64(g.position), g.live + 2*g.size + generationPage})
	}
	return out
}

func (s *saved) generations() []generation {
	s.once.Do(s.older)
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// file is an open file of a generation.
func (s *saved) file(number uint64) (disk.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.open[number]; ok {
		return f, nil
	}
	f, err := s.fs.Open(generationName(s.dir, number))
	if err == nil {
		s.open[number] = f
	}
	return f, err
}

// block reads an extent; nil if there is none.
func (s *saved) block(e extent) (*block, error) {
	if e.size == 0 {
		return nil, nil
	}
	f, err := s.file(e.file)
	if err != nil {
		return nil, s.damaged(e, err)
	}
	b := make([]byte, e.size)
	if _, err := f.ReadAt(b, e.at); err != nil {
		return nil, s.damaged(e, err)
	}
	out, err := s.id.open(e, b)
	if err != nil {
		return nil, s.damaged(e, err)
	}
	return out, nil
}

func (s *saved) damaged(e extent, why error) error {
	return &DamageError{File: filepath.Base(generationName("", e.file)), Why: why}
}

// leaf reads a base and the runs of it, which become one.
func (s *saved) leaf(at *stored) (base, runs *block, err error) {
	if at == nil {
		return nil, nil, nil
	}
	if base, err = s.block(at.base); err != nil {
		return nil, nil, err
	}
	layers := make([]layer, 0, len(at.runs))
	for _, e := range slices.Backward(at.runs) {
		b, err := s.block(e)
		if err != nil {
			return nil, nil, err
		}
		layers = append(layers, b)
	}
	switch len(layers) {
	case 0:
		return base, nil, nil
	case 1:
		return base, layers[0].(*block), nil
	}
	return base, flatten(layers, false), nil
}

// add makes a generation the newest one, and forgets those that are not kept.
// It returns the oldest that is, if there are more than that.
func (s *saved) add(g generation) (oldest generation, more bool) {
	s.once.Do(s.older)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.Insert(s.list, 0, g)
	s.size[g.number] = g.total
	if more = len(s.list) >= s.kept; more {
		s.list = s.list[:s.kept]
		oldest = s.list[s.kept-1]
	}
	return oldest, more
}

// since is the oldest generation that is kept with one more; next: none is.
func (s *saved) since(next uint64) uint64 {
	list := s.generations()
	if n := min(len(list), s.kept-1); n > 0 {
		return list[n-1].number
	}
	return next
}

// filesMany is from how many files on a checkpoint tries for fewer.
const filesMany = 64

// wasteful says that less than half of what the files of the newest generation
// hold is in use, or that they are too many.
func (s *saved) wasteful() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return false
	}
	var all int64
	for _, n := range s.list[0].needs {
		all += s.size[n]
	}
	return all > 2*s.list[0].live+leafMax || len(s.list[0].needs) > filesMany
}

// clean removes files that no generation needs: keep is held. One that cannot be
// removed is found again by the next.
func (s *saved) clean() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	needed := map[uint64]bool{}
	for _, g := range s.list {
		for _, n := range g.needs {
			needed[n] = true
		}
	}
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		n, ok := generationNumber(e.Name())
		if !ok || needed[n] {
			continue
		}
		if f := s.open[n]; f != nil {
			delete(s.open, n)
			err = errors.Join(err, f.Close())
		}
		delete(s.size, n)
		if rerr := s.fs.Remove(generationName(s.dir, n)); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

func (s *saved) close() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.open {
		err = errors.Join(err, f.Close())
	}
	s.open = nil
	return err
}

// find looks for generations, and returns the leaves of the newest that can be
// used, and what is wrong with others. ErrNewer ends it: a newer one may be
// there that only a newer version can read.
func (s *saved) find() (leaves []indexed, damaged []error, err error) {
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return nil, nil, err
	}
	var numbers []uint64
	for _, e := range entries {
		n, ok := generationNumber(e.Name())
		if !ok {
			continue
		}
		fi, err := e.Info()
		if err != nil {
			return nil, nil, err
		}
		s.size[n] = fi.Size()
		numbers = append(numbers, n)
	}
	slices.SortFunc(numbers, func(a, b uint64) int { return cmp.Compare(b, a) })
	for i, n := range numbers {
		if i == 0 {
			s.next = n + 1
		}
		g, list, err := s.read(n)
		if errors.Is(err, ErrNewer) {
			return nil, nil, err
		}
		if err == nil {
			s.list, s.rest = []generation{g}, numbers[i+1:]
			return list, damaged, nil
		}
		damaged = append(damaged, s.damaged(extent{file: n}, err))
	}
	return nil, damaged, nil
}

// read reads a generation whose files are there.
func (s *saved) read(number uint64) (generation, []indexed, error) {
	g, leaves, err := readGeneration(s.fs, s.dir, s.id, number)
	if err == nil {
		err = whole(leaves, s.size)
	}
	return g, leaves, err
}

// older adds what can be recovered from beside the newest generation: of others
// only a part is needed, and the log behind them is not there. Nobody waits for
// that at the start.
func (s *saved) older() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.rest {
		if len(s.list) == s.kept || n < s.list[0].since {
			break
		}
		if g, _, err := s.read(n); err == nil {
			s.list = append(s.list, g)
		}
	}
	s.rest = nil
}

// whole checks that the files of leaves are there and long enough.
func whole(leaves []indexed, sizes map[uint64]int64) error {
	check := func(e extent) error {
		size, ok := sizes[e.file]
		switch {
		case e.size == 0:
			return nil
		case !ok:
			return errors.New(filepath.Base(generationName("", e.file)) + ", which it needs, is missing")
		case e.at+int64(e.size) > size:
			return errors.New(filepath.Base(generationName("", e.file)) + ", which it needs, was cut short")
		}
		return nil
	}
	for i := range leaves {
		if err := check(leaves[i].base); err != nil {
			return err
		}
		for _, e := range leaves[i].runs {
			if err := check(e); err != nil {
				return err
			}
		}
	}
	return nil
}
