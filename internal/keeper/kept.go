package keeper

import (
	"errors"
	"fmt"
	"os"

	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
)

// keptName is the directory of a workload in which a restore lays out files
// that the host does not have as they were.
const keptName = "kept"

// keep takes what the tree only reads into the generation, while it runs: a
// restore needs it where the host has other files by then, or none.
func (c *capture) keep(x *files.Index) error {
	k := c.k
	s, err := c.d.Section(files.KeptSection, k.kept != nil)
	if err != nil {
		return err
	}
	ours := map[string]bool{} // what is put back is as it was by then
	for i := range x.Entries {
		ours[x.Entries[i].Path] = true
	}
	list := make([]files.Named, 0, len(c.reads))
	for _, m := range c.reads {
		if !ours[m.Path] {
			list = append(list, files.Named{Path: m.Path, Size: m.Size, Mtime: m.ModTime})
		}
	}
	kept, left, err := files.Keep(k.kept, list, s)
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	for _, path := range left {
		if !k.unkept[path] {
			k.log.Warn("not kept: it must be on the host when the program is restored", "file", path)
		}
	}
	k.unkept = map[string]bool{}
	for _, path := range left {
		k.unkept[path] = true
	}
	p, err := kept.Encode()
	if err != nil {
		return err
	}
	c.kept = kept
	return c.d.Blob(files.KeptName, p)
}

// keptOf reads what a generation keeps; os.ErrNotExist when it keeps nothing.
func keptOf(r reader) (*files.Kept, error) {
	p, err := r.Blob(files.KeptName)
	if err != nil {
		return nil, err
	}
	return files.DecodeKept(p)
}

// shelve makes a restore look for what it maps among what is kept. dir is the
// workload's, or that of a dump; home is where it was when the generation was
// made. done, which may be called whatever came of it, ends the use.
func shelve(r reader, o *engine.RestoreOptions, dir, home string) (done func(restored bool), err error) {
	x, err := keptOf(r)
	if errors.Is(err, os.ErrNotExist) {
		return func(bool) {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("what is kept: %w", err)
	}
	s, err := r.Section(files.KeptSection)
	if err != nil {
		return nil, fmt.Errorf("what is kept: %w", err)
	}
	own := []string{dir}
	if home != "" {
		own = append(own, home)
	}
	shelf := files.NewShelf(x, s, dir+"/"+keptName, own...)
	o.Kept = shelf.File
	return func(restored bool) {
		if restored {
			_ = shelf.Tidy() // what is left over is tidied up the next time
		}
		_ = s.Close()
	}, nil
}
