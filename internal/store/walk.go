package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// walk reads every frame of a pack, the first time that it comes to it: also
// those to which nothing refers, and of which no tree leads the way. Only the
// first one that is damaged is noted, since where the next one begins is no
// longer sure.
func (v *verifier) walk(r *packReader, p packUse) error {
	if _, done := v.walked[p.Pack]; done {
		return nil
	}
	if err := v.ctx.Err(); err != nil {
		return err
	}
	v.walked[p.Pack] = nil
	o, err := r.use(p.Pack)
	if err != nil {
		return v.stray(p.Pack, err)
	}
	defer r.done(o)
	info, err := o.f.Stat()
	if err != nil {
		return err
	}
	if p.Size < 0 { // nobody says how long it should be
		p.Size = info.Size()
	}
	read := o.f.ReadAt
	if v.pace != nil {
		read = func(b []byte, off int64) (int, error) {
			v.pace(int64(len(b)))
			return o.f.ReadAt(b, off)
		}
	}
	off, what, err := firstDamaged(o.seal, read, min(info.Size(), p.Size))
	if err != nil {
		return v.stray(p.Pack, lost(p.Pack.file(), off, err))
	}
	if what == "" && info.Size() != p.Size {
		what = fmt.Sprintf("%d bytes long instead of %d", info.Size(), p.Size)
	}
	if v.clean[p.Pack] = what == ""; what != "" {
		v.walked[p.Pack] = &Damage{
			DamageError: DamageError{Pack: p.Pack.file(), Offset: off, What: what},
			Follows:     "no generation refers to it",
		}
	}
	return nil
}

// stray notes damage in a pack. Which generations it touches is found on the
// way through them: what they refer to there may have a copy.
func (v *verifier) stray(p PackID, err error) error {
	var de *DamageError
	if !errors.As(err, &de) {
		return err
	}
	v.walked[p] = &Damage{DamageError: *de, Follows: "no generation is touched"}
	return nil
}

// walkWindow is the size of one read; the largest frame fits.
const walkWindow = 4 << 20

// firstDamaged returns where the first damaged frame of a pack begins and
// what is wrong with it; "" and the pack's end when there is none.
func firstDamaged(s *packSeal, readAt func([]byte, int64) (int, error), size int64) (off int64, what string, err error) {
	buf := make([]byte, min(size, walkWindow))
	var win []byte
	for off = packHeadSize; off < size; {
		if len(win) < frameHead || int64(len(win)) < frameCost(win) {
			n := min(size-off, int64(len(buf)))
			if n <= int64(len(win)) { // all there is was looked at
				return off, "frame: cut short", nil
			}
			if _, err := readAt(buf[:n], off); err != nil {
				return off, "", err
			}
			win = buf[:n]
			if len(win) < frameHead || int64(len(win)) < frameCost(win) {
				return off, "frame: cut short", nil
			}
		}
		n := frameCost(win)
		if _, err := s.openFrame(win[frameHead:frameHead], win[:n], uint32(off), win[0]); err != nil {
			return off, err.Error(), nil
		}
		win, off = win[n:], off+n
	}
	return off, "", nil
}

// frameCost is what the frame that begins b says that it takes on disk.
func frameCost(b []byte) int64 { return frameOverhead + int64(binary.LittleEndian.Uint32(b[4:])) }

// unreferred returns the damage in packs of which no generation knows.
func (v *verifier) unreferred() []*Damage {
	var all []*Damage
	for _, id := range slices.Sorted(maps.Keys(v.walked)) {
		if w := v.walked[id]; w != nil && !v.knows(w) {
			all = append(all, w)
		}
	}
	return all
}

// knows reports whether a damage at or before w in its pack was found on the
// way through a generation: it is the same one, or has led the walk astray.
func (v *verifier) knows(w *Damage) bool {
	for _, d := range v.all {
		if d.Pack == w.Pack && d.Offset <= w.Offset {
			return true
		}
	}
	return false
}
