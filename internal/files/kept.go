package files

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"
)

// What a workload only reads is kept too: the executables and libraries that
// it has mapped, and the files that it has open for reading. A restore takes
// them where the host has others by then, or none.
//
// They lie in a section of their own, cut where their contents say so, each
// piece once: a new version of a library adds what is new in it, and a file
// under another name adds nothing.

// The names under which a generation holds what is kept.
const (
	KeptName    = "kept"
	KeptSection = "kept"
)

const (
	keptVersion = 1
	keptMax     = 1 << 30 // bytes of one file
)

// Named is a file that is to be kept.
type Named struct {
	Path  string
	Size  int64
	Mtime int64 // nanoseconds since 1970; 0: whatever it is now
}

// Kept is what a generation keeps.
type Kept struct {
	Version int        `cbor:"1,keyasint"`
	Next    int64      `cbor:"2,keyasint"` // first free offset of the section
	Files   []KeptFile `cbor:"3,keyasint"` // by path
}

// KeptFile is one file with its contents.
type KeptFile struct {
	Path   string  `cbor:"1,keyasint"`
	Size   int64   `cbor:"2,keyasint"`
	Mtime  int64   `cbor:"3,keyasint"`
	Ino    uint64  `cbor:"4,keyasint"`
	Ctime  int64   `cbor:"5,keyasint"`
	Sum    []byte  `cbor:"6,keyasint"` // BLAKE3 of all of it, 32 bytes
	Pieces []piece `cbor:"7,keyasint,omitempty"`
}

// Encode gives the deterministic encoding.
func (k *Kept) Encode() ([]byte, error) { return encode(k) }

// DecodeKept reads an encoded Kept. The pieces of each file that it returns
// lie within bounds and are as long as the file.
func DecodeKept(p []byte) (*Kept, error) {
	k := new(Kept)
	if err := decode(p, k); err != nil {
		return nil, fmt.Errorf("index of what is kept: %w", err)
	}
	if k.Version != keptVersion {
		return nil, fmt.Errorf("index of what is kept: version %d, want %d", k.Version, keptVersion)
	}
	for i := range k.Files {
		if err := k.Files[i].check(k.Next); err != nil {
			return nil, fmt.Errorf("index of what is kept: %s: %w", k.Files[i].Path, err)
		}
	}
	return k, nil
}

func (f *KeptFile) check(next int64) error {
	size, err := checkPieces(f.Pieces, next)
	if err == nil && (!clean(f.Path) || len(f.Sum) != 32 || f.Size != size || size > keptMax) {
		err = fmt.Errorf("%d bytes in pieces of a file of %d", size, f.Size)
	}
	return err
}

// keeping is one call of Keep.
type keeping struct {
	cutter
	out *Kept
}

// Keep keeps the files of a list. What last holds of them is not read again
// while the file has the same size, times and inode. The section w must
// inherit exactly when last is not nil. left are the files that could not be
// kept: they are too large, or not what they were any more. Where nothing has
// changed, last is returned itself.
func Keep(last *Kept, list []Named, w Section) (k *Kept, left []string, err error) {
	was := map[string]*KeptFile{}
	t := &keeping{out: &Kept{Version: keptVersion}}
	t.cutter = cutter{w: w, next: &t.out.Next, stored: func(add func([]piece)) {
		for _, f := range was {
			add(f.Pieces)
		}
	}}
	if last != nil {
		t.out.Next = last.Next
		for i := range last.Files {
			was[last.Files[i].Path] = &last.Files[i]
		}
	}
	slices.SortFunc(list, func(a, b Named) int { return strings.Compare(a.Path, b.Path) })
	list = slices.CompactFunc(list, func(a, b Named) bool { return a.Path == b.Path })
	fresh := false
	for _, n := range list {
		f, read, err := t.file(n, was[n.Path])
		if err != nil {
			return nil, nil, err
		}
		if f == nil {
			left = append(left, n.Path)
			continue
		}
		fresh = fresh || read
		t.out.Files = append(t.out.Files, *f)
	}
	if last != nil && !fresh && len(t.out.Files) == len(last.Files) {
		return last, left, nil
	}
	return t.out, left, t.forget(last)
}

// file keeps one file; nil when that cannot be done. read says that it was not
// kept before.
func (t *keeping) file(n Named, old *KeptFile) (f *KeptFile, read bool, err error) {
	var st unix.Stat_t
	if !clean(n.Path) || unix.Lstat(n.Path, &st) != nil {
		return nil, false, nil
	}
	f = keptOf(n.Path, &st)
	if old != nil && old.Size == f.Size && old.Mtime == f.Mtime && old.Ino == f.Ino && old.Ctime == f.Ctime {
		return old, false, nil
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || f.Size > keptMax || n.Mtime != 0 && (n.Size != f.Size || n.Mtime != f.Mtime) {
		return nil, false, nil
	}
	in, err := os.OpenFile(n.Path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, false, nil
	}
	defer in.Close()
	sum := blake3.New()
	pieces, bad, err := t.cut(io.TeeReader(in, sum))
	if err != nil {
		return nil, false, err
	}
	f.Pieces, f.Sum = pieces, sum.Sum(nil)
	if bad != nil || f.check(t.out.Next) != nil || unix.Fstat(int(in.Fd()), &st) != nil || st.Mtim.Nano() != f.Mtime || st.Ino != f.Ino {
		return nil, false, t.drop() // somebody writes to it
	}
	return f, true, nil
}

func keptOf(path string, st *unix.Stat_t) *KeptFile {
	return &KeptFile{Path: path, Size: st.Size, Mtime: st.Mtim.Nano(), Ino: st.Ino, Ctime: st.Ctim.Nano()}
}

// forget clears the pieces that no file has any more.
func (t *keeping) forget(last *Kept) error {
	if last == nil {
		return nil
	}
	used := map[int64]bool{}
	for i := range t.out.Files {
		for _, p := range t.out.Files[i].Pieces {
			used[p.At] = true
		}
	}
	for i := range last.Files {
		if err := clearUnused(t.w, last.Files[i].Pieces, used); err != nil {
			return err
		}
	}
	return nil
}

// sumOf is the BLAKE3 of an open file, from its beginning.
func sumOf(f *os.File) ([]byte, error) {
	h := blake3.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, 1<<62)); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// is says that an open file has the contents that were kept.
func (f *KeptFile) is(g *os.File) bool {
	st, err := g.Stat()
	if err != nil || st.Size() != f.Size {
		return false
	}
	sum, err := sumOf(g)
	return err == nil && bytes.Equal(sum, f.Sum)
}
