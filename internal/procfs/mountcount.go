package procfs

import (
	"cmp"
	"slices"
)

// A MountName says what is mounted where, which is the same in all mount
// namespaces; the numbers of mounts are not.
type MountName struct{ Point, FSType, Root string }

// A MountCount is how often each mount is there: one may lie above another.
type MountCount map[MountName]int

// CountMounts counts the mounts of a list.
func CountMounts(list []Mount) MountCount {
	c := make(MountCount, len(list))
	for _, m := range list {
		c[MountName{m.MountPoint, m.FSType, m.Root}]++
	}
	return c
}

// Beyond lists what c has more often than each of others has it, in order of
// where it is mounted.
func (c MountCount) Beyond(others ...MountCount) []MountName {
	var list []MountName
	for name, n := range c {
		if !slices.ContainsFunc(others, func(o MountCount) bool { return o[name] >= n }) {
			list = append(list, name)
		}
	}
	slices.SortFunc(list, func(a, b MountName) int {
		return cmp.Or(cmp.Compare(a.Point, b.Point), cmp.Compare(a.FSType, b.FSType), cmp.Compare(a.Root, b.Root))
	})
	return list
}
