package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/sys"
)

// Identity is as whom files are put back: what a program could not write, its
// put-back must not write either, whatever has become of names and directories
// meanwhile.
//
// Three things are done as root all the same, since they give nobody anything:
// looking whether something is already what it was; writing into the very file
// that the tree held open for writing, whoever may open it now; and making, after
// a boot, what lay on a file system that a boot empties.
type Identity struct {
	UID, GID uint32
	Groups   []uint32
}

// as runs f as who, on a thread of its own that ends with it. Without a who,
// or where this process has no other identity to give, it just runs f.
func (p *put) as(who *Identity, f func() error) error {
	if who == nil || who.UID == 0 || os.Geteuid() != 0 {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: nothing else runs on it
		p.who = who
		if err := p.become(); err != nil {
			done <- fmt.Errorf("act as user %d: %w", who.UID, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// become gives this thread the identity.
func (p *put) become() error {
	if err := sys.SetThreadGroups(p.who.Groups); err != nil {
		return err
	}
	if _, err := unix.SetfsgidRetGid(int(p.who.GID)); err != nil {
		return err
	}
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &p.rights[0]); err != nil {
		return err
	}
	return p.lower()
}

// lower takes root's identity and all capabilities away from this thread.
func (p *put) lower() error {
	none := p.rights
	for i := range none {
		none[i].Effective = 0
	}
	return p.fileUser(int(p.who.UID), none)
}

// fileUser makes uid the one whose permissions count, with what is effective of
// rights.
func (p *put) fileUser(uid int, rights [2]unix.CapUserData) error {
	p.close() // what one may open is not for the other
	if _, err := unix.SetfsuidRetUid(uid); err != nil {
		return err
	}
	if now, _ := unix.SetfsuidRetUid(-1); now != uid { // it tells nothing else of a failure
		return unix.EPERM
	}
	return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &rights[0])
}

// root runs f with the rights of this process.
func (p *put) root(f func() error) (err error) {
	if p.who == nil || p.raised {
		return f()
	}
	if err := p.fileUser(0, p.rights); err != nil {
		return err
	}
	p.raised = true
	defer func() {
		p.raised = false
		err = errors.Join(err, p.lower())
	}()
	return f()
}

// way is how a file is put back.
type way uint8

const (
	asItself way = iota // as the workload
	asItIs              // not at all: it is what it was
	asHeld              // into the file that it held open
	asNew               // as root, since a boot has taken it away
)

// decide finds how every file is put back that is not unchanged, before
// anything is touched. One that the workload could not write is an error.
func (p *put) decide() error {
	if p.who == nil {
		return nil
	}
	for i := range p.x.Entries {
		e := &p.x.Entries[i]
		if e.Kind != Regular || p.ways[e] == asItIs {
			continue
		}
		err := p.may(e)
		if err == nil {
			continue
		}
		if errors.Is(err, fs.ErrPermission) {
			err = p.root(func() error { return p.otherWay(e, err) })
		}
		if err != nil {
			return fmt.Errorf("put back %s as user %d: %w", e.Path, p.who.UID, err)
		}
	}
	return nil
}

// otherWay finds another way for a file that the workload may not write now,
// for the reason why.
func (p *put) otherWay(e *Entry, why error) error {
	dir, base, err := p.parent(e.Path)
	switch {
	case err == nil && (p.unchanged(dir, base, e) || p.already(dir, base, e)):
		p.ways[e] = asItIs
		return p.device(dir)
	case err == nil && e.Held && sameFile(dir, base, e):
		p.ways[e] = asHeld
	case p.emptied(e.Path):
		p.ways[e] = asNew
	default:
		return why
	}
	return nil
}

// may says whether the workload could write a file, or make it anew.
func (p *put) may(e *Entry) error {
	dir, base, err := p.parent(e.Path)
	for at := e.Path; errors.Is(err, unix.ENOENT); { // it is going to be made
		at, base = filepath.Dir(at), ""
		dir, _, err = p.parent(at)
	}
	if err != nil {
		return err
	}
	if base != "" && p.unchanged(dir, base, e) {
		return nil
	}
	if base != "" && sameFile(dir, base, e) {
		if fd, err := openIn(dir, base, unix.O_RDWR, 0); err == nil {
			unix.Close(fd)
			return nil
		}
	}
	return unix.Faccessat(dir, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS)
}

// sameFile says that a name is that of the very file that was captured.
func sameFile(dir int, base string, e *Entry) bool {
	var st unix.Stat_t
	if unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || !isFile(&st, e) {
		return false
	}
	return len(e.Handle) == 0 || bytes.Equal(handleOf(dir, base), e.Handle)
}

// isFile says that a stat is of the inode of e.
func isFile(st *unix.Stat_t, e *Entry) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFREG && uint64(st.Dev) == e.Dev && st.Ino == e.Ino
}

// already says that a file has the contents and attributes that it had.
func (p *put) already(dir int, base string, e *Entry) bool {
	fd, err := openIn(dir, base, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	f := os.NewFile(uintptr(fd), e.Path)
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return false
	}
	now := entryOf(e.Path, &st)
	if now.Kind != Regular || now.Size != e.Size || !p.dressed(f, &now, e) {
		return false
	}
	return p.contains(f, e) == nil
}

// errDiffers says that a file has other contents.
var errDiffers = errors.New("its contents are others")

// contains compares an open file with what it contained.
func (p *put) contains(f io.ReaderAt, e *Entry) error {
	buf, none := make([]byte, 256<<10), make([]byte, 256<<10)
	at := int64(0)
	equal := func(want []byte) error {
		have := buf[:len(want)]
		if n, err := f.ReadAt(have, at); n < len(have) {
			return err
		}
		at += int64(len(want))
		if !bytes.Equal(have, want) {
			return errDiffers
		}
		return nil
	}
	zero := func(to int64) error {
		for at < to {
			if err := equal(none[:min(int64(len(none)), to-at)]); err != nil {
				return err
			}
		}
		return nil
	}
	err := error(nil)
	if e.Size > 0 {
		err = p.contents(e, func(off int64, b []byte) error {
			err := zero(off)
			for ; err == nil && len(b) > 0; b = b[min(len(b), len(buf)):] {
				err = equal(b[:min(len(b), len(buf))])
			}
			return err
		})
	}
	if err != nil {
		return err
	}
	return zero(e.Size)
}

// dressed says that what is open as f, and is now as it says, has the owner,
// mode and attributes of e.
func (p *put) dressed(f *os.File, now, e *Entry) bool {
	if now.UID != e.UID || now.GID != e.GID || now.Mode != e.Mode {
		return false
	}
	have, err := xattrs(f)
	if err != nil || len(have) != len(e.Xattrs) {
		return false
	}
	for name, v := range e.Xattrs {
		if h, ok := have[name]; !ok || !bytes.Equal(h, v) {
			return false
		}
	}
	return true
}

// emptied says that a name is not there since a boot has emptied its file
// system.
func (p *put) emptied(path string) bool {
	if p.same || !errors.Is(unix.Lstat(path, new(unix.Stat_t)), unix.ENOENT) {
		return false
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		fd, err := beneath(dir)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return false
		}
		defer unix.Close(fd)
		var st unix.Statfs_t
		err = unix.Fstatfs(fd, &st)
		return err == nil && (int64(st.Type) == unix.TMPFS_MAGIC || int64(st.Type) == unix.RAMFS_MAGIC)
	}
}

// act does f as the workload, or as root where that is refused and a boot has
// emptied the place.
func (p *put) act(path string, f func() error) error {
	err := f()
	if p.who == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return p.root(func() error {
		if !p.emptied(path) {
			return fmt.Errorf("as user %d: %w", p.who.UID, err)
		}
		return f()
	})
}
