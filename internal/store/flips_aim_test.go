package store

import (
	"path"

	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
	"github.com/wakepoint/wakepoint/internal/seal"
)

// aim is a way to damage a store.
type aim struct {
	share int
	late  bool // it comes while a writer is at work
	next  bool // somebody always commits on top of it
	keep  bool // and forgets nothing
	hurt  func(f *flips, t *trial, d *crashfs.FS) []wound
}

var aims = []aim{
	{share: 12, hurt: (*flips).anything},
	{share: 2, hurt: (*flips).anything, late: true, keep: true},
	{share: 2, hurt: (*flips).someMoved, next: true},
	{share: 1, hurt: (*flips).someNode, next: true},
	{share: 1, hurt: (*flips).bothNodes, next: true},
	{share: 1, hurt: (*flips).someManifest, next: true},
	{share: 1, hurt: (*flips).someManifest, late: true},
	{share: 1, hurt: (*flips).bothManifests, next: true},
	{share: 1, hurt: (*flips).whatItIs},
	{share: 2, hurt: (*flips).someSeal},
	{share: 1, hurt: (*flips).oldEpoch, next: true},
	{share: 1, hurt: (*flips).otherEpoch, late: true},
}

// draw draws an aim.
func (t *trial) draw() aim {
	all := 0
	for _, a := range aims {
		all += a.share
	}
	k := t.rand.IntN(all)
	for _, a := range aims {
		if k -= a.share; k < 0 {
			return a
		}
	}
	panic("the shares do not add up")
}

func (f *flips) forger(t *trial, d *crashfs.FS) forger { return forger{t, d, f.dir, f.keys} }

// anything damages one file, or two.
func (f *flips) anything(t *trial, d *crashfs.FS) []wound {
	wounds := []wound{f.hurt(t, d, "")}
	if t.rand.IntN(4) == 0 {
		wounds = append(wounds, f.hurt(t, d, wounds[0].file))
	}
	return wounds
}

// someMoved damages a frame that the next commit moves, or forges it: it must
// not be sealed anew.
func (f *flips) someMoved(t *trial, d *crashfs.FS) []wound {
	e := f.moved[t.rand.IntN(len(f.moved))]
	if w, ok := f.forger(t, d).frame(e.at); ok && t.rand.IntN(2) == 0 {
		return []wound{w}
	}
	return []wound{flipBit(t, d, e.file, e.from, e.to)}
}

// someNode forges a node of the newest generation.
func (f *flips) someNode(t *trial, d *crashfs.FS) []wound {
	w, _ := f.forger(t, d).frame(f.branch(t).at)
	return []wound{w}
}

// bothNodes damages a node and forges its copy.
func (f *flips) bothNodes(t *trial, d *crashfs.FS) []wound {
	e := f.branch(t)
	return []wound{flipBit(t, d, e.file, e.from, e.to), f.forger(t, d).copied(e.at.pack.Generation(), e.at, swapped)}
}

// branch draws a node with several children.
func (f *flips) branch(t *trial) extent {
	whole := f.forger(t, f.disk)
	for {
		if e := f.node(t); swapped(whole.payload(e.at).data) != nil {
			return e
		}
	}
}

// someManifest forges the newest manifest: what only it refers to must stay.
func (f *flips) someManifest(t *trial, d *crashfs.FS) []wound {
	return []wound{f.forger(t, d).manifest(f.top)}
}

// bothManifests damages the newest manifest and forges its copy.
func (f *flips) bothManifests(t *trial, d *crashfs.FS) []wound {
	name := path.Join(f.dir, manifestsDir, f.top.String())
	return []wound{flipBit(t, d, name, envelopeHead, envelopeOverhead), f.forger(t, d).copiedManifest(f.top)}
}

// whatItIs damages the files that say what the workload is, and the store, and
// forges what the newest manifest says of that.
func (f *flips) whatItIs(t *trial, d *crashfs.FS) []wound {
	wounds := []wound{flipBit(t, d, path.Join(f.dir, workloadFile), envelopeHead, envelopeOverhead), f.forger(t, d).ids(f.top)}
	if t.rand.IntN(2) == 0 {
		wounds = append(wounds, flipBit(t, d, path.Join(crashStore, storeFile), envelopeHead, envelopeOverhead))
	}
	return wounds
}

// someSeal damages the seal at the end of a file, and nothing that it seals.
func (f *flips) someSeal(t *trial, d *crashfs.FS) []wound {
	for {
		name := f.files[t.rand.IntN(len(f.files))]
		if fi, err := d.Lstat(name); err == nil && kindOf(name) != "head" {
			return []wound{flipBit(t, d, name, fi.Size()-seal.Overhead, fi.Size())}
		}
	}
}

// oldEpoch forges a state of long ago, of which no head tells: epochs rise
// all the same.
func (f *flips) oldEpoch(t *trial, d *crashfs.FS) []wound {
	wounds := []wound{f.forger(t, d).state(func(s *state) { s.Epoch = 1 })}
	for _, name := range f.files {
		if kindOf(name) == "head" {
			wounds = append(wounds, flipBit(t, d, name, envelopeHead, envelopeOverhead))
		}
	}
	return wounds
}

// otherEpoch forges a state in which another writer has taken over.
func (f *flips) otherEpoch(t *trial, d *crashfs.FS) []wound {
	return []wound{f.forger(t, d).state(func(s *state) { s.Epoch++ })}
}
