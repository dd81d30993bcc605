package vmtest

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// WriteInitrd writes an initramfs: the kernel's modules in /modules, and files
// of the host, at places in the machine. What is at /init is the first process.
func WriteInitrd(name string, k Kernel, files map[string]string) error {
	all := maps.Clone(files)
	list, err := k.moduleFiles()
	if err != nil {
		return err
	}
	for i, file := range list {
		all[fmt.Sprintf("/modules/%02d-%s", i, filepath.Base(file))] = file
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := writeArchive(w, all); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// archive is a cpio archive in the format newc: for each entry a header of "070701"
// and 13 numbers of 8 hexadecimal digits, the name with a zero byte, and the
// contents, both filled up to a multiple of 4. See the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst.
type archive struct {
	w     io.Writer
	inode int
}

// Types of entries, as in st_mode.
const (
	modeDir  = 0o040000
	modeFile = 0o100000
)

func writeArchive(w io.Writer, files map[string]string) error {
	a := &archive{w: w}
	made := map[string]bool{"/": true}
	for _, place := range slices.Sorted(maps.Keys(files)) {
		var dirs []string
		for dir := path.Dir(place); !made[dir]; dir = path.Dir(dir) {
			made[dir] = true
			dirs = append(dirs, dir)
		}
		for _, dir := range slices.Backward(dirs) {
			if err := a.entry(dir, modeDir|0o755, nil); err != nil {
				return err
			}
		}
		data, err := os.ReadFile(files[place])
		if err != nil {
			return err
		}
		if err := a.entry(place, modeFile|0o755, data); err != nil {
			return err
		}
	}
	return a.entry("/TRAILER!!!", 0, nil)
}

// entry writes one entry. Its time is fixed: what does not change between two
// boots looks the same after them.
func (a *archive) entry(place string, mode int, data []byte) error {
	const owner, links, modified = 0, 1, 1
	name := place[1:] + "\x00"
	a.inode++
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, owner, owner, links, modified, len(data), 0, 0, 0, 0, len(name), 0)
	text := head + name
	if _, err := io.WriteString(a.w, text+zeros(len(text))); err != nil {
		return err
	}
	if _, err := a.w.Write(data); err != nil {
		return err
	}
	_, err := io.WriteString(a.w, zeros(len(data)))
	return err
}

// zeros fills n up to a multiple of 4.
func zeros(n int) string { return "\x00\x00\x00"[:-n&3] }
