package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// native says whether OS keeps what FS promises.
func native() error { return nil }

// open is os.OpenFile, but what is open may be given another name or none, as on
// other systems.
func open(name string, how int) (*os.File, error) {
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	access, disposition := uint32(windows.GENERIC_READ), uint32(windows.OPEN_EXISTING)
	if how&os.O_RDWR != 0 {
		access |= windows.GENERIC_WRITE
	}
	if how&os.O_CREATE != 0 {
		disposition = windows.CREATE_NEW
	}
	h, err := windows.CreateFile(p, access, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
		nil, disposition, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(h), name), nil
}

// rename is os.Rename, but the new name is on the disk when it returns
// (MOVEFILE_WRITE_THROUGH): directories cannot be fsynced here.
func rename(from, to string) error {
	f, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	t, err := windows.UTF16PtrFromString(to)
	if err == nil {
		err = windows.MoveFileEx(f, t, windows.MOVEFILE_REPLACE_EXISTING|windows.MOVEFILE_WRITE_THROUGH)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// syncDir does nothing: rename has done it.
func syncDir(*os.File) error { return nil }

// lock takes a lock by objects of the kernel that are there as long as somebody
// has them open: directories cannot be locked, and nothing is to be written into
// one that may be another program's. Two that try at the same instant may both be
// refused.
//
// BUG: who uses a network drive from another machine is not locked out.
func lock(name string, mode LockMode) (io.Closer, error) {
	id, err := identify(name)
	if err != nil {
		return nil, &os.PathError{Op: "lock", Path: name, Err: err}
	}
	mine, other := id+"-alone", id+"-shared"
	if mode == Shared {
		mine, other = other, mine
	}
	for {
		h, err := tryLock(mine, other, mode == Shared)
		switch {
		case err == nil:
			return h, nil
		case !errors.Is(err, ErrLocked) || mode != ExclusiveWait:
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// tryLock makes an object, which nobody else may have unless it is shared, and
// lets it go when there is another one.
func tryLock(mine, other string, shared bool) (object, error) {
	h, err := exists(mine)
	switch {
	case errors.Is(err, windows.ERROR_ACCESS_DENIED): // another user's
		return 0, ErrLocked
	case errors.Is(err, windows.ERROR_ALREADY_EXISTS) && !shared:
		return 0, errors.Join(ErrLocked, h.Close())
	case h == 0:
		return 0, err
	}
	o, err := exists(other)
	if o != 0 {
		_ = o.Close()
	}
	if err != nil {
		return 0, errors.Join(ErrLocked, h.Close())
	}
	return h, nil
}

// exists makes an object, and says by ERROR_ALREADY_EXISTS that there was one.
func exists(name string) (object, error) {
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, err
	}
	h, err := windows.CreateMutex(nil, false, p)
	return object(h), err
}

// object is an open handle.
type object windows.Handle

func (o object) Close() error { return windows.CloseHandle(windows.Handle(o)) }

// identify gives a file a name that it keeps under all of its names.
func identify(name string) (string, error) {
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return "", err
	}
	h, err := windows.CreateFile(p, windows.FILE_READ_ATTRIBUTES, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
		nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
	if err != nil {
		return "", err
	}
	defer windows.CloseHandle(h)
	var fi windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &fi); err != nil {
		return "", err
	}
	return fmt.Sprintf(`Global\wakepoint-%08x-%08x%08x`, fi.VolumeSerialNumber, fi.FileIndexHigh, fi.FileIndexLow), nil
}

func owned(fs.FileInfo) bool   { return true }
func trusted(fs.FileInfo) bool { return true }
func shared(fs.FileInfo) bool  { return false }
