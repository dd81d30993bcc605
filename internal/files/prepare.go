package files

import (
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"time"
)

const (
	// prepareMin is how much there must be to read, in bytes, that reading it
	// beforehand is worth the while. A file counts as fileCost more: to open it
	// takes as long as to read that.
	prepareMin = 4 << 20
	fileCost   = 64 << 10
	// restlessTime is how long a file must have rested that was read beforehand
	// in vain, before that is tried again.
	restlessTime = time.Second
)

// Prepare copies, while the tree runs, what a Take with these options would
// read in the freeze, where that is much: files that have changed, or that no
// generation has yet. What can be cloned is left to Take, and so are files that
// are mapped, whose times do not tell what was written since. What it returns is
// o.Prepared of that Take, with the same section; what changes after it was read
// here is read again there.
//
// o.Open is not looked at: now says what the tree holds open, and what it maps
// shared, at the moment (of File only the inode counts). It must not miss what
// was mapped before it was called and still is.
func Prepare(o Options, now func() ([]Open, error), w Section) (*Index, error) {
	if o.Keep {
		return nil, nil
	}
	p := &preparation{Capture: newCapture(o, w), now: now, names: map[inode]bool{}, reflink: map[uint64]bool{}}
	p.clonesLeft = 0 // what can be cloned is left to Take
	if err := p.look(o); err != nil || p.size < prepareMin {
		return nil, err
	}
	if err := p.scan(); err != nil {
		return nil, err
	}
	p.index.Taken = time.Now().UnixNano()
	for _, path := range p.list {
		if err := p.copyNow(path); err != nil {
			return nil, err
		}
	}
	return p.merged(), nil
}

// preparation is a Prepare under way.
type preparation struct {
	*Capture
	now     func() ([]Open, error)
	scanned bool
	loose   []string // what is open for writing, outside the trees too
	list    []string // what is to be read
	size    int64    // of it, bytes
	clones  int      // files that Take is going to clone
	names   map[inode]bool
	reflink map[uint64]bool // by device
}

// scan asks what is held open.
func (p *preparation) scan() error {
	if p.scanned {
		return nil
	}
	p.scanned = true
	open, err := p.now()
	if err != nil {
		return err
	}
	for _, f := range open {
		if err := p.hold(f); err != nil {
			return err
		}
		if f.Writable {
			p.loose = append(p.loose, f.Path)
		}
	}
	return nil
}

// look lists what Take would read: of the trees, and of the files that were
// open in the last generation or, without one, are now.
func (p *preparation) look(o Options) error {
	for _, t := range o.Trees {
		if err := p.walk(t, p.consider); err != nil {
			return err
		}
	}
	if o.Last == nil {
		if err := p.scan(); err != nil {
			return err
		}
	}
	for _, f := range o.Written {
		p.loose = append(p.loose, f.Path)
	}
	for path := range p.last {
		p.loose = append(p.loose, path)
	}
	sort.Strings(p.loose)
	for i, path := range p.loose {
		if i > 0 && p.loose[i-1] == path || underAny(path, o.Trees) || underAny(path, o.Except) || !ours(path) {
			continue
		}
		if err := p.consider(path); err != nil {
			return err
		}
	}
	return nil
}

// consider puts one file on the list, if Take would read it.
func (p *preparation) consider(path string) error {
	e, nlink, err := stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || e.Kind != Regular || nlink > 1 && p.names[inode{e.Dev, e.Ino}] {
		return err
	}
	if nlink > 1 {
		p.names[inode{e.Dev, e.Ino}] = true
	}
	n := e.Size
	if old, had := p.last[path]; had && !p.fresh {
		switch {
		case old.Hot, !old.young && same(&e, &old.Entry):
			return nil
		case old.restless && time.Since(time.Unix(0, e.Ctime)) < restlessTime:
			return nil
		case len(old.Tail) > 0 && e.Dev == old.Dev && e.Ino == old.Ino && e.Size >= old.Size && e.Size <= old.Room:
			n -= old.Size // Take reads no more either
		}
	}
	if n > slotMin && p.clones < clonesMax && p.canClone(&e) && p.room.take(path) {
		p.clones++
		return nil
	}
	if n > 0 {
		p.list, p.size = append(p.list, path), p.size+n+fileCost
	}
	return nil
}

// canClone says whether a file's file system has reflinks.
func (p *preparation) canClone(e *Entry) bool {
	can, known := p.reflink[e.Dev]
	if known {
		return can
	}
	can = Clones(e.Path)
	p.reflink[e.Dev] = can
	return can
}

// copyNow reads one file as it is now.
func (p *preparation) copyNow(path string) error {
	e, _, err := stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || e.Kind != Regular || p.held[inode{e.Dev, e.Ino}].hot() {
		return err
	}
	p.index.Entries = append(p.index.Entries, e)
	if err := p.regular(len(p.index.Entries) - 1); err != nil {
		return fmt.Errorf("copy beforehand: %w", err)
	}
	return nil
}

// merged is what the section has of files: what was read now, and before. What
// could not be trusted of the last index is not trusted here.
func (p *preparation) merged() *Index {
	x := p.index
	for i := range x.Entries {
		x.Entries[i].prepared = true
		delete(p.last, x.Entries[i].Path)
	}
	for _, old := range p.last {
		old.Hot = old.Hot || old.young || p.fresh
		if p.fresh {
			old.Tail = nil
		}
		x.Entries = append(x.Entries, old.Entry)
	}
	x.stale = p.stale
	return x
}

// ours says that a path is not the kernel's.
func ours(path string) bool {
	return clean(path) && !underAny(path, []string{"/proc", "/sys"}) && !device(path)
}
