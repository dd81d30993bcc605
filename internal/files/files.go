// Package files takes the files of a workload into a generation and puts
// them back.
//
// A capture has two halves: Take, while the tree is frozen, fixes what every
// file contains; Finish, after the thaw, reads what could be cloned instead of
// being read at once. Contents lie in one section, each file in a slot of its
// own whose place it keeps from one generation to the next, so that unchanged
// pages cost nothing. Names, owners, modes, times, attributes and links lie in
// an index (a blob).
//
// PutBack makes the files again, so that a program finds them as they were at
// the instant of its memory. It may be cut at any point and repeated; the
// result is the same.
package files

import (
	"fmt"
	"os"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// The names under which a generation holds the files.
const (
	IndexName   = "files"
	SectionName = "files"
)

// pageSize is the grain of a section.
const pageSize = 4096

// indexVersion is the version of the encoding of an Index.
const indexVersion = 1

// Section takes in contents. Offsets and lengths are multiples of 4096.
type Section interface {
	Put(off int64, p []byte) error
	Zero(off, n int64) error
}

// Reader gives contents back; holes are not mentioned.
type Reader interface {
	Each(from, to int64, f func(off int64, p []byte) error) error
}

// Open is a file that the tree holds open or maps, or a name to which it has
// bound a socket: of that only the directories are kept.
type Open struct {
	Path     string
	File     *os.File // the same inode, opened for reading; nil for a bound socket
	Writable bool     // open for writing, or mapped shared and writable
	Append   bool     // every descriptor that it is open for writing at has O_APPEND
	Mapped   bool     // mapped shared and writable
	Volatile bool     // lies on tmpfs: a boot empties it
	Written  bool     // was written and closed
}

// inode names a file whatever its names: device and number.
type inode [2]uint64

// Kind is what an entry is.
type Kind uint8

// The kinds of entries.
const (
	Directory Kind = iota + 1
	Regular
	Symlink
	FIFO
	Link  // another name of the Regular entry that Target names
	Other // a socket or a device: known, so that it is not deleted; made by others
	Gone  // a name outside the trees that was not there: a file that has come since is deleted
)

// Entry is one name.
type Entry struct {
	Path   string            `cbor:"1,keyasint"`
	Kind   Kind              `cbor:"2,keyasint"`
	Mode   uint32            `cbor:"3,keyasint"` // permissions with set-id and sticky bits
	UID    uint32            `cbor:"4,keyasint"`
	GID    uint32            `cbor:"5,keyasint"`
	Mtime  int64             `cbor:"6,keyasint"` // nanoseconds since 1970
	Xattrs map[string][]byte `cbor:"7,keyasint,omitempty"`
	Size   int64             `cbor:"8,keyasint,omitempty"`
	Target string            `cbor:"9,keyasint,omitempty"`
	Slot   int64             `cbor:"10,keyasint,omitempty"` // offset in the section
	Room   int64             `cbor:"11,keyasint,omitempty"` // length of the slot
	Loose  bool              `cbor:"12,keyasint,omitempty"` // a directory outside the trees: made when missing, else left alone

	// What tells whether the file is still the one that was read.
	Dev   uint64 `cbor:"13,keyasint,omitempty"`
	Ino   uint64 `cbor:"14,keyasint,omitempty"`
	Ctime int64  `cbor:"15,keyasint,omitempty"`
	Hot   bool   `cbor:"16,keyasint,omitempty"` // could change without a trace when it was taken: it is read the next time

	// Tail is of a file to which all who had it open for writing could only
	// append: a hash of its last tailSize bytes. Of any other it is empty.
	Tail []byte `cbor:"17,keyasint,omitempty"`

	// A file outside the trees that was written is in every generation from
	// then on, until it is deleted.
	Written bool   `cbor:"18,keyasint,omitempty"`
	Handle  []byte `cbor:"19,keyasint,omitempty"` // finds it after a rename (name_to_handle_at(2))

	// Pieces hold the contents of a file that is replaced as a whole, and has no
	// slot.
	Pieces []piece `cbor:"20,keyasint,omitempty"`

	Held bool `cbor:"21,keyasint,omitempty"` // the tree had it open for writing

	// What a running keeper knows beside, and no generation has.
	prepared bool // it was read before the freeze
	restless bool // that was in vain: it had changed again
}

// Index is what a generation knows of a workload's files.
type Index struct {
	Version int      `cbor:"1,keyasint"`
	BootID  string   `cbor:"2,keyasint"`
	Taken   int64    `cbor:"3,keyasint"` // when the capture began, nanoseconds since 1970
	Trees   []string `cbor:"4,keyasint"`
	Except  []string `cbor:"5,keyasint"` // never touched, nor what is below
	Next    int64    `cbor:"6,keyasint"` // first free offset of the section
	Entries []Entry  `cbor:"7,keyasint"` // parents before children

	stale []piece // of Prepare: what is not used any more, unless Take finds it again
}

// Encode gives the index's deterministic encoding.
func (x *Index) Encode() ([]byte, error) { return encode(x) }

func encode(v any) ([]byte, error) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	return mode.Marshal(v)
}

func decode(p []byte, v any) error {
	mode, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		MaxArrayElements: 1 << 24,
		MaxMapPairs:      1 << 16,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		UTF8:             cbor.UTF8DecodeInvalid, // names are bytes, not text
	}.DecMode()
	if err != nil {
		return err
	}
	return mode.Unmarshal(p, v)
}

// Decode reads an encoded index. What it returns holds only clean absolute
// paths without "..", slots within bounds, and parents before children.
func Decode(p []byte) (*Index, error) {
	x := new(Index)
	if err := decode(p, x); err != nil {
		return nil, fmt.Errorf("index of files: %w", err)
	}
	if x.Version != indexVersion {
		return nil, fmt.Errorf("index of files: version %d, want %d", x.Version, indexVersion)
	}
	return x, x.check()
}

// check refuses what Capture would never have written.
func (x *Index) check() error {
	for _, p := range append(append([]string{}, x.Trees...), x.Except...) {
		if !clean(p) {
			return fmt.Errorf("index of files: path %q", p)
		}
	}
	for i := range x.Entries {
		e := &x.Entries[i]
		if !clean(e.Path) || e.Kind == Link && !clean(e.Target) {
			return fmt.Errorf("index of files: path %q", e.Path)
		}
		if e.Kind < Directory || e.Kind > Gone {
			return fmt.Errorf("index of files: %s: kind %d", e.Path, e.Kind)
		}
		if err := e.checkPlace(x.Next); err != nil {
			return fmt.Errorf("index of files: %s: %w", e.Path, err)
		}
	}
	return nil
}

// checkPlace refuses an entry whose contents have no room where it says.
func (e *Entry) checkPlace(next int64) error {
	size, err := checkPieces(e.Pieces, next)
	if err != nil {
		return err
	}
	if e.Size < 0 || e.Slot < 0 || e.Room < 0 || e.Slot > slotEnd || e.Room > slotEnd || e.Slot+e.Room > slotEnd ||
		e.Kind == Regular && size == 0 && e.Size > e.Room || size != 0 && (size != e.Size || e.Room != 0) {
		return fmt.Errorf("slot %#x+%#x and %d bytes in pieces for %d bytes", e.Slot, e.Room, size, e.Size)
	}
	return nil
}

// each calls f with the contents of a regular file, by their offset in it,
// ascending, without what is zero.
func (e *Entry) each(r Reader, f func(off int64, b []byte) error) error {
	if len(e.Pieces) > 0 {
		return eachPiece(r, e.Pieces, f)
	}
	return r.Each(e.Slot, e.Slot+pageUp(e.Size), func(off int64, b []byte) error {
		off -= e.Slot
		if off >= e.Size {
			return nil
		}
		return f(off, b[:min(int64(len(b)), e.Size-off)])
	})
}

// clean says that p is an absolute path without empty, "." or ".." elements
// and NUL bytes. "/" is not.
func clean(p string) bool {
	if len(p) < 2 || p[0] != '/' || strings.ContainsRune(p, 0) {
		return false
	}
	for _, s := range strings.Split(p[1:], "/") {
		if s == "" || s == "." || s == ".." {
			return false
		}
	}
	return true
}

// under says that p is dir or lies below it.
func under(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

// underAny says that p lies in one of dirs.
func underAny(p string, dirs []string) bool {
	for _, d := range dirs {
		if under(p, d) {
			return true
		}
	}
	return false
}

// BootID names this boot of the kernel (random(4)).
func BootID() string {
	p, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(p))
}
