package store

import (
	"bytes"
	"encoding/binary"
	"path"
	"slices"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// A forgery is well made and says something wrong, and its seal is broken:
// nothing but the comparison of the seal tells. A bit that flips is mostly
// noticed by something else as well, such as a list that is not in its order.

// forger forges what lies on a disk.
type forger struct {
	testing.TB
	d    *crashfs.FS
	dir  string // of the workload
	keys keyring
}

// read reads a file below the workload's directory.
func (f forger) read(name string) []byte {
	b, err := disk.ReadFile(f.d, path.Join(f.dir, name), envelopeMax)
	must(f, err)
	return b
}

// write replaces a file, of which all is now wrong.
func (f forger) write(name string, b []byte) wound {
	must(f, disk.WriteFile(f.d, path.Join(f.dir, name), b))
	return wound{path.Join(f.dir, name), 0, 1 << 40, name + " forged"}
}

// envelope forges a record or a manifest.
func (f forger) envelope(name, magic string, change func(k *keyring, payload []byte) []byte) wound {
	payload, k, err := disclose(f.keys.root, magic, path.Base(name), f.read(name))
	must(f, err)
	payload = change(&k, payload)
	return f.write(name, unsealed(enclose(k, magic, path.Base(name), payload)))
}

// unsealed breaks the seal at the end of what was sealed.
func unsealed(b []byte) []byte {
	b[len(b)-1] ^= 1
	return b
}

// state forges the state.
func (f forger) state(change func(*state)) wound {
	return f.envelope(stateFile, magicRecord, func(_ *keyring, b []byte) []byte {
		var s state
		must(f, decodeState(b, &s))
		change(&s)
		b, err := encodeCBOR(s)
		must(f, err)
		return b
	})
}

// ids forges to whom a manifest belongs.
func (f forger) ids(g Generation) wound {
	return f.envelope(manifestsDir+"/"+g.String(), magicManifest, func(k *keyring, b []byte) []byte {
		k.store[0] ^= 1
		k.workload[0] ^= 1
		return b
	})
}

// manifest forges a manifest, which so does not know of its own packs.
func (f forger) manifest(g Generation) wound {
	return f.envelope(manifestsDir+"/"+g.String(), magicManifest, func(_ *keyring, b []byte) []byte {
		return f.without(b, g)
	})
}

// without takes what a generation wrote out of its manifest.
func (f forger) without(b []byte, g Generation) []byte {
	m := new(manifest)
	must(f, decodeCBOR(b, m))
	m.Packs = slices.DeleteFunc(m.Packs, func(p packUse) bool { return p.Pack.Generation() == g })
	b, err := encodeCBOR(m)
	must(f, err)
	return b
}

// copiedManifest forges the copy of a manifest, which so says that the memory
// is what it was one generation before.
func (f forger) copiedManifest(g Generation) wound {
	before, _, err := disclose(f.keys.root, magicManifest, (g - 1).String(), f.read(manifestsDir+"/"+(g-1).String()))
	must(f, err)
	old := new(manifest)
	must(f, decodeCBOR(before, old))
	return f.copied(g, place{}, func(b []byte) []byte {
		m := new(manifest)
		must(f, decodeCBOR(f.without(b, g), m))
		m.Sections = old.Sections
		b, err := encodeCBOR(m)
		must(f, err)
		return b
	})
}

// open opens the frame at a place in a pack.
func (f forger) open(b []byte, at place) (*packSeal, []byte, payload) {
	s, err := checkPackHead(b[:packHeadSize], f.keys, at.pack)
	must(f, err)
	frame := b[at.off:][:at.cost()]
	p, err := s.openFrame(nil, frame, at.off, frame[0])
	must(f, err)
	return s, frame, p
}

// payload is what the frame at a place holds.
func (f forger) payload(at place) payload {
	_, _, p := f.open(f.read(at.pack.file()), at)
	return p
}

// frame forges the frame at a place; false where it cannot be done.
func (f forger) frame(at place) (wound, bool) {
	b := f.read(at.pack.file())
	s, frame, p := f.open(b, at)
	if p.data = bent(frame[0], p); p.data == nil {
		return wound{}, false
	}
	copy(frame, unsealed(s.appendFrame(nil, at.off, binary.LittleEndian.Uint32(frame[8:]), frame[0], p)))
	w := f.write(at.pack.file(), b)
	w.from, w.to = int64(at.off), int64(at.off)+at.cost()
	return w, true
}

// bent is another payload of the same length; nil when none was found.
func bent(kind byte, p payload) []byte {
	if kind == kindNode {
		return swapped(p.data)
	}
	var d decoder
	plain, _ := d.append(nil, p, blobPiece)
	b := bytes.Clone(p.data)
	for i := range b {
		b[i] ^= 1
		if other, err := d.append(nil, payload{p.codec, b}, blobPiece); err == nil && len(other) == len(plain) && !bytes.Equal(other, plain) {
			return b
		}
		b[i] ^= 1
	}
	return nil
}

// swapped is a node two of whose children have changed places; nil when it has
// only one.
func swapped(b []byte) []byte {
	n, err := decodeNode(b)
	if err != nil {
		return nil
	}
	first := -1
	for i := range fan {
		if !n.has(i) {
			continue
		}
		if first >= 0 {
			n.e[first], n.e[i] = n.e[i], n.e[first]
			return encodeNode(n)
		}
		first = i
	}
	return nil
}

// copied forges a copy that a generation keeps.
func (f forger) copied(g Generation, of place, change func([]byte) []byte) wound {
	for i := copiesIndex; ; i++ {
		id := packID(g, i)
		if b, found := f.forgedCopies(id, f.read(id.file()), of, change); found {
			return f.write(id.file(), b)
		}
	}
}

// forgedCopies is a pack of copies with one that is forged, if that lies in
// it. The frames behind that one have moved.
func (f forger) forgedCopies(id PackID, b []byte, of place, change func([]byte) []byte) (out []byte, found bool) {
	s, err := checkPackHead(b[:packHeadSize], f.keys, id)
	must(f, err)
	out = bytes.Clone(b[:packHeadSize])
	var d decoder
	for off := int64(packHeadSize); off < int64(len(b)); off += frameCost(b[off:]) {
		frame := b[off:][:frameCost(b[off:])]
		p, err := s.openFrame(nil, frame, uint32(off), kindCopies)
		must(f, err)
		plain, err := d.append(nil, p, 2*copiesMax)
		must(f, err)
		row, here := copyWriter{}, false
		_, err = eachCopy(plain, func(at place, b []byte) bool {
			if at.pack == of.pack && at.off == of.off {
				b, here = change(bytes.Clone(b)), true
			}
			return row.add(at, b) == nil
		})
		must(f, err)
		out = s.appendFrame(out, uint32(len(out)), binary.LittleEndian.Uint32(frame[8:]), kindCopies, payload{codecRaw, row.row})
		if here {
			unsealed(out)
			found = true
		}
	}
	return out, found
}
