package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// shmDest is the mode bit of a segment that is already marked for removal.
const shmDest = 0o1000

// openObjects makes the shared objects again, with their contents.
func (r *restorer) openObjects() error {
	r.object = make([]*os.File, len(r.tree.Objects))
	for i := range r.tree.Objects {
		if err := r.openObject(i, &r.tree.Objects[i]); err != nil {
			return fmt.Errorf("make %s: %w", r.tree.Objects[i].Name, err)
		}
	}
	return nil
}

func (r *restorer) openObject(i int, o *image.Object) error {
	var f *os.File
	var err error
	switch o.Kind {
	case image.SharedMemory:
		f, err = sys.SharedMemory(o.Size)
	case image.Memfd:
		var fd int
		if fd, err = unix.MemfdCreate(o.Name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING); err == nil {
			f = os.NewFile(uintptr(fd), o.Name)
			err = f.Truncate(o.Size)
		}
	case image.SysV:
		return r.openSegment(o)
	case image.DeletedFile:
		f, err = r.openDeleted(o)
	default:
		return fmt.Errorf("an object of kind %d is unknown", o.Kind)
	}
	if err != nil {
		return err
	}
	r.object[i] = f
	if o.Kind != image.SharedMemory {
		if err := unix.Fchmod(int(f.Fd()), o.Mode&0o7777); err != nil {
			return err
		}
	}
	sec, err := r.source.Section(o.Section)
	if err != nil {
		return err
	}
	defer sec.Close()
	err = sec.Each(0, (o.Size+4095)&^4095, func(off int64, p []byte) error {
		if rest := o.Size - off; int64(len(p)) > rest {
			p = p[:rest]
		}
		_, err := f.WriteAt(p, off)
		return err
	})
	if err != nil || !r.executed(i) {
		return err
	}
	// Nothing that is open for writing can be executed.
	defer f.Close()
	if err := addSeals(f, o); err != nil {
		return err
	}
	r.object[i], err = os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	return err
}

// executed says that a process executes object i.
func (r *restorer) executed(i int) bool {
	return slices.ContainsFunc(r.tree.Spaces, func(s image.Space) bool { return s.ExeObject == i+1 })
}

// addSeals seals a memfd as it was.
func addSeals(f *os.File, o *image.Object) error {
	if o.Kind != image.Memfd || o.Seals == 0 {
		return nil
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, o.Seals); err != nil {
		return fmt.Errorf("seal memfd %s: %w", o.Name, err)
	}
	return nil
}

// openDeleted makes a file without a name, in the directory where it was if there is one.
func (r *restorer) openDeleted(o *image.Object) (*os.File, error) {
	path := r.inside(o.Name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case os.IsExist(err):
		f, err = os.CreateTemp(filepath.Dir(path), ".wakepoint-*")
	case os.IsNotExist(err): // the directory is gone too
		f, err = os.CreateTemp("", ".wakepoint-*")
	}
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	if err := f.Truncate(o.Size); err != nil {
		return nil, err
	}
	return f, unix.Fchown(int(f.Fd()), int(o.UID), int(o.GID))
}

// openSegment makes a System V segment with its old id.
func (r *restorer) openSegment(o *image.Object) error {
	return inIPC(r.init.PID, func() error {
		if err := os.WriteFile("/proc/sys/kernel/shm_next_id", []byte(strconv.Itoa(o.ID)), 0); err != nil {
			return err
		}
		id, err := sys.ShmCreate(int(o.Key), o.Size, 0o600)
		if err != nil {
			return err
		}
		if id != o.ID {
			return fmt.Errorf("the segment got id %d, not %d", id, o.ID)
		}
		sec, err := r.source.Section(o.Section)
		if err != nil {
			return err
		}
		defer sec.Close()
		err = sys.ShmFill(id, o.Size, func(mem []byte) error {
			return sec.Each(0, (o.Size+4095)&^4095, func(off int64, p []byte) error {
				copy(mem[off:], p)
				return nil
			})
		})
		if err != nil {
			return err
		}
		return sys.ShmOwn(id, o.UID, o.GID, o.Mode)
	})
}

// sealObjects does what would have hindered filling and attaching.
func (r *restorer) sealObjects() error {
	for i := range r.tree.Objects {
		o := &r.tree.Objects[i]
		switch {
		case o.Kind == image.Memfd && !r.executed(i):
			if err := addSeals(r.object[i], o); err != nil {
				return err
			}
		case o.Kind == image.SysV && o.Mode&shmDest != 0:
			if err := inIPC(r.init.PID, func() error { return sys.ShmRemove(o.ID) }); err != nil {
				return fmt.Errorf("mark segment %d for removal: %w", o.ID, err)
			}
		}
	}
	return nil
}
