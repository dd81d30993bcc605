package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// objectSource is where the contents of an object are read from.
type objectSource struct {
	link string // a magic link of /proc that opens it
	key  inode
}

// object returns the index of the object behind a link, adding it when it is
// new. path is what /proc calls it.
func (d *dumper) object(link, path string, st *syscall.Stat_t) (int, error) {
	key := inode{uint64(st.Dev), st.Ino}
	if i, ok := d.objects[key]; ok {
		return i, nil
	}
	o := image.Object{Section: fmt.Sprintf("object/%x-%d", key.dev, key.ino), Size: st.Size, Mode: st.Mode,
		UID: st.Uid, GID: st.Gid, ModTime: st.Mtim.Nano(), Name: path}
	switch {
	case path == "/dev/zero":
		o.Kind = image.SharedMemory
	case strings.HasPrefix(path, "/memfd:"):
		o.Kind, o.Name = image.Memfd, strings.TrimPrefix(path, "/memfd:")
		if err := d.seals(link, &o); err != nil {
			return 0, err
		}
	case strings.HasPrefix(path, "/SYSV"):
		o.Kind = image.SysV
		seg, ok := d.segment(st.Ino)
		if !ok {
			return 0, fmt.Errorf("segment %d of System V is not in its namespace's list", st.Ino)
		}
		o.Key, o.ID, o.Mode, o.UID, o.GID = seg.Key, seg.ID, seg.Mode, seg.UID, seg.GID
	default:
		o.Kind = image.DeletedFile
	}
	d.objects[key] = len(d.tree.Objects)
	d.tree.Objects = append(d.tree.Objects, o)
	d.sources = append(d.sources, objectSource{link, key})
	return d.objects[key], nil
}

func (d *dumper) seals(link string, o *image.Object) error {
	f, err := os.Open(link)
	if err != nil {
		return fmt.Errorf("open memfd %s: %w", o.Name, err)
	}
	defer f.Close()
	o.Seals, err = unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	return err
}

// looseSegments adds the System V segments that nobody has attached.
func (d *dumper) looseSegments() {
	if d.tree.HostIPC {
		return
	}
	seen := map[int]bool{}
	for i := range d.tree.Objects {
		if o := &d.tree.Objects[i]; o.Kind == image.SysV {
			seen[o.ID] = true
		}
	}
	for _, s := range d.segments {
		if seen[s.ID] {
			continue
		}
		key := inode{0, uint64(s.ID)}
		d.tree.Objects = append(d.tree.Objects, image.Object{Kind: image.SysV, Section: fmt.Sprintf("object/shm-%d", s.ID),
			Name: fmt.Sprintf("System V segment %d", s.ID), Size: int64(s.SizeBytes), Key: s.Key, ID: s.ID, Mode: s.Mode, UID: s.UID, GID: s.GID})
		d.sources = append(d.sources, objectSource{"", key})
	}
}

// openSource opens what an object's contents are read from.
func (d *dumper) openSource(o *image.Object, src objectSource) (f *os.File, err error) {
	if src.link != "" {
		return os.Open(src.link)
	}
	err = inIPC(d.f.tree.member(), func() error {
		f, err = sys.ShmOpen(o.ID)
		return err
	})
	return f, err
}

// dumpObject writes the contents of an object. Writes by others than the
// mappers that we see leave no trace in any page table, so it is always read
// whole, without its holes; the sink knows what is the same as before.
func (d *dumper) dumpObject(s Sink, i int, inherit bool) error {
	o, src := &d.tree.Objects[i], d.sources[i]
	f, err := d.openSource(o, src)
	if err != nil {
		return err
	}
	defer f.Close()
	sink, err := s.Section(o.Section, inherit && d.f.tree.dumped[src.key])
	if err != nil {
		return err
	}
	d.f.tree.dumping[src.key] = true
	if err := copyFile(f, o.Size, sink); err != nil {
		return err
	}
	return sink.Close()
}

// copyFile copies a file of the given size, hole by hole.
func copyFile(f *os.File, size int64, sink SectionSink) error {
	buf := make([]byte, chunk)
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO || err == nil && data >= size { // no data is left
			end := (size + abi.PageSize - 1) &^ (abi.PageSize - 1)
			return sink.Zero(at, end-at)
		}
		if err != nil {
			return err
		}
		if data &^= abi.PageSize - 1; data > at {
			if err := sink.Zero(at, data-at); err != nil {
				return err
			}
		}
		hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		end := min((hole+abi.PageSize-1)&^(abi.PageSize-1), size)
		for at = data; at < end; {
			n, err := f.ReadAt(buf[:min(int64(len(buf)), end-at)], at)
			if n == 0 && err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if n == 0 {
				return nil
			}
			full := (n + abi.PageSize - 1) &^ (abi.PageSize - 1)
			clear(buf[n:full])
			if err := sink.Put(at, buf[:full]); err != nil {
				return err
			}
			at += int64(full)
		}
	}
	return nil
}

// belongs notes a file that may belong to the checkpoint: one that is written
// to, or that a boot would empty.
func (d *dumper) belongs(link, path string, st *syscall.Stat_t, writable, noAppend, mapped bool) error {
	key := inode{uint64(st.Dev), st.Ino}
	if o := d.files[key]; o != nil {
		o.Writable, o.Mapped = o.Writable || writable, o.Mapped || mapped
		o.Append = o.Append && (!writable || !noAppend)
		return nil
	}
	volatile, err := d.fileSystem(link, path, st.Dev)
	if err != nil || !writable && !volatile {
		return err
	}
	f, err := os.Open(link)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	d.files[key] = &OpenFile{Path: path, File: f, Writable: writable, Append: !noAppend, Mapped: mapped, Volatile: volatile}
	d.fileOrder = append(d.fileOrder, key)
	return nil
}

// fileSystem says whether a file lies on a file system that a boot empties,
// and refuses those whose files are none.
func (d *dumper) fileSystem(link, path string, dev uint64) (volatile bool, err error) {
	kind, ok := d.f.tree.fileSystems[dev]
	if !ok {
		var fs unix.Statfs_t
		if err := unix.Statfs(link, &fs); err != nil {
			return false, fmt.Errorf("statfs %s: %w", link, err)
		}
		kind = int64(fs.Type)
		d.f.tree.fileSystems[dev] = kind
	}
	if what, ok := unsavable[kind]; ok {
		return false, refuse(int(d.f.tree.handle.Command), fmt.Sprintf("%s (%s) cannot be saved", what, path), "let it close that, or start it without what uses it")
	}
	return kind == unix.TMPFS_MAGIC || kind == unix.RAMFS_MAGIC, nil
}

// finishFiles makes the list that Files returns, in the order of discovery.
func (d *dumper) finishFiles() {
	d.f.files = d.f.files[:0]
	for _, k := range d.fileOrder {
		d.f.files = append(d.f.files, *d.files[k])
	}
}
