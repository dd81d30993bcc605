package keeper

import (
	"github.com/wakepoint/wakepoint/internal/files"
)

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
