package durable_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/durable/durabletest"
)

var (
	flipsN    = flag.Int("flips.n", 300, "bits that are flipped")
	flipsSeed = flag.Uint64("flips.seed", 1, "what draws them")
)

// flips flips bits of a database that was closed.
type flips struct {
	testing.TB
	rand  *rand.Rand
	all   *states
	last  int64
	disk  *durabletest.Disk
	kinds map[string]*flipCount
	why   []string // what was wrong
}

// flipCount is what became of a kind of file.
type flipCount struct{ flips, silent, repaired, refused, wrong, lost int }

// flipsLast is how many transactions there are: for several generations, and
// more than one leaf.
const flipsLast = 900

func newFlips(t testing.TB, seed uint64) *flips {
	f := &flips{TB: t, rand: rand.New(rand.NewPCG(seed, 2)), all: &states{}, last: flipsLast, disk: durabletest.NewDisk(), kinds: map[string]*flipCount{}}
	c := &client{t: t, all: f.all, begun: 0}
	for c.acked < f.last { // another life now and then
		s, err := c.open(f.disk)
		for n := 0; err == nil && n < 150 && c.acked < min(f.last, c.limit()); n++ {
			if n%40 == 30 {
				err = s.Checkpoint(context.Background())
			}
			err = errors.Join(err, c.update(s))
		}
		if err = errors.Join(err, s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// flip flips a bit anywhere in a file, or in its first bytes, or in one of its
// last; now and then two of one file.
func (f *flips) flip(d *durabletest.Disk) (name string, bits []int64) {
	files, err := d.ReadDir(dir)
	if err != nil {
		f.Fatal(err)
	}
	name = path.Join(dir, files[f.rand.IntN(len(files))].Name())
	fi, err := d.Lstat(name)
	if err != nil {
		f.Fatal(err)
	}
	for range 1 + f.rand.IntN(8)/7 {
		size := fi.Size() * 8
		bit := f.rand.Int64N(size)
		switch f.rand.IntN(4) {
		case 0:
			bit = f.rand.Int64N(min(size, 96*8))
		case 1:
			bit = size - 1 - f.rand.Int64N(min(size, 512*8))
		}
		if err := d.Flip(name, bit); err != nil {
			f.Fatal(err)
		}
		bits = append(bits, bit)
	}
	return name, bits
}

// once flips something and looks at what is left.
func (f *flips) once() {
	d := f.disk.Kill()
	f.disk = f.disk.Kill()
	name, bits := f.flip(d)
	kind := path.Ext(name)
	if kind == "" {
		kind = path.Base(name)
	}
	if f.kinds[kind] == nil {
		f.kinds[kind] = &flipCount{}
	}
	count := f.kinds[kind]
	count.flips++
	said, err := f.look(d)
	again := error(nil)
	if err == nil && f.rand.IntN(4) == 0 {
		_, again = f.look(d) // what the first one has left
	}
	switch lost := (*lostError)(nil); {
	case errors.As(errors.Join(err, again), &lost):
		count.lost++
	case isDamage(err) && !strings.Contains(err.Error(), "Verify says") && (again == nil || isDamage(again)):
		count.refused++
		return
	case err != nil || again != nil && !isDamage(again):
		count.wrong++
	case said:
		count.repaired++
		return
	default:
		count.silent++
		return
	}
	f.why = append(f.why, fmt.Sprintf("%s, bits %v: %v", name, bits, errors.Join(err, again)))
}

// lostError says that acknowledged work is not there, and nobody says so.
type lostError struct{ n, of int64 }

func (e *lostError) Error() string {
	return fmt.Sprintf("the last transaction is %d, %d was acknowledged", e.n, e.of)
}

func isDamage(err error) bool {
	d := (*durable.DamageError)(nil)
	return errors.As(err, &d)
}

// look opens what is left, reads all of it, goes on and closes it. Everything is
// right, or a *DamageError. It returns whether something was said to be damaged.
func (f *flips) look(d *durabletest.Disk) (said bool, err error) {
	s, err := start(d, dir, 4)
	if err != nil {
		return true, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	n, err := s.whole(f.all)
	said = s.heard.complaints.Load() > 0
	if verr := s.Verify(context.Background()); verr == nil && err != nil || verr != nil && !isDamage(verr) && !errors.Is(verr, syscall.EIO) {
		return said, fmt.Errorf("read: %w; Verify says: %v", err, verr)
	}
	switch {
	case isDamage(err):
		return true, f.keys(s, err)
	case err != nil:
		return said, err
	case n < f.last:
		return said, &lostError{n, f.last}
	}
	if err := s.Update(context.Background(), func(tx *durable.Tx) error { s.do(tx, n); return nil }); err != nil {
		return said, err
	}
	if f.rand.IntN(2) == 0 {
		err = s.Checkpoint(context.Background())
	}
	return said, err
}

// keys looks for each key for itself, where not all can be read. It returns
// what is wrong, or else the damage.
func (f *flips) keys(s *server, damage error) error {
	right := 0
	for n := range int64(600) {
		k := fmt.Sprint("k", n)
		var got []byte
		var found bool
		err := s.View(context.Background(), func(tx *durable.Tx) error {
			got, found = s.blobs.Get(tx, k)
			return nil
		})
		want, there := f.all.after(f.last)["blobs "+k]
		switch {
		case isDamage(err):
			continue
		case err != nil:
			return err
		case found != there || string(got) != want:
			return fmt.Errorf("%s is %.60q, not %.60q", k, got, want)
		}
		right++
	}
	f.Logf("%d of 600 keys can be read: %v", right, damage)
	return damage
}

// table is what became of the flips.
func (f *flips) table() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%-8s %7s %9s %9s %9s %6s %6s\n", "kind", "flips", "no matter", "made anew", "refused", "wrong", "lost")
	for _, kind := range slices.Sorted(maps.Keys(f.kinds)) {
		c := f.kinds[kind]
		fmt.Fprintf(&s, "%-8s %7d %9d %9d %9d %6d %6d\n", strings.TrimPrefix(kind, "."), c.flips, c.silent, c.repaired, c.refused, c.wrong, c.lost)
	}
	return s.String()
}

// TestFlips flips bits of a closed database: what is read is right, or it is
// said to be damaged.
func TestFlips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlips(t, *flipsSeed)
		for range *flipsN {
			if f.once(); len(f.why) > 20 {
				break
			}
		}
		for _, why := range f.why {
			t.Error(why)
		}
		t.Logf("seed %d: %d flips\n%s", *flipsSeed, *flipsN, f.table())
	})
}

// TestFlipsLate flips bits under a database that is open and has all in memory.
// Verify looks, the next checkpoint makes anew what was damaged, and nothing is
// lost.
func TestFlipsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlips(quietLog{t}, *flipsSeed)
		damaged := 0
		for range *flipsN / 3 {
			d := f.disk.Kill()
			f.disk = f.disk.Kill()
			name, bits, found, err := f.late(d)
			if err != nil {
				t.Errorf("%s, bits %v: %v", name, bits, err)
			}
			if found {
				damaged++
			}
		}
		t.Logf("seed %d: %d of %d flips were found by Verify", *flipsSeed, damaged, *flipsN/3)
	})
}

// late flips something under an open database.
func (f *flips) late(d *durabletest.Disk) (name string, bits []int64, found bool, err error) {
	s, err := start(d, dir, 4)
	if err != nil {
		return "", nil, false, err
	}
	n, err := s.whole(f.all)
	if err != nil {
		return "", nil, false, errors.Join(err, s.Close())
	}
	synctest.Wait() // until the files of the log are made
	name, bits = f.flip(d)
	err = s.Verify(context.Background())
	if found = err != nil; found && !isDamage(err) {
		return name, bits, found, errors.Join(err, s.Close())
	}
	err = s.Update(context.Background(), func(tx *durable.Tx) error { s.do(tx, n); return nil })
	err = errors.Join(err, s.Checkpoint(context.Background()), s.Close())
	if err != nil {
		return name, bits, found, err
	}
	if s, err = start(d.Cut(durabletest.LoseAll), dir, 4); err != nil {
		return name, bits, found, err
	}
	n, err = s.whole(f.all)
	if err == nil && n != f.last {
		err = &lostError{n, f.last}
	}
	return name, bits, found, errors.Join(err, s.Close())
}

// TestVerifyIndexes flips the same bit in both indexes of each generation's file:
// Verify says so, of whichever it is.
func TestVerifyIndexes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if why := newFlips(quietLog{t}, 1).indexes(10); why != "" {
			t.Error(why)
		}
	})
}

// indexes does that so often with each file, and returns what is wrong.
func (f *flips) indexes(times int) (why string) {
	files, err := f.disk.ReadDir(dir)
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range files {
		name := path.Join(dir, e.Name())
		if path.Ext(name) != ".gen" {
			continue
		}
		for n := range times {
			d := f.disk.Kill()
			f.disk = f.disk.Kill()
			at, size := f.index(d, name)
			bit := f.rand.Int64N(size * 8)
			flip := func() error { return errors.Join(d.Flip(name, at*8+bit), d.Flip(name, (at+size)*8+bit)) }
			err := error(nil)
			if n%2 == 0 { // before it is opened, or behind it
				err = flip()
			}
			s, oerr := start(d, dir, 4)
			if n%2 != 0 {
				err = flip()
			}
			if err != nil {
				f.Fatal(err)
			}
			if err = oerr; err == nil {
				err = s.Verify(context.Background())
				_ = s.Close()
			}
			if !isDamage(err) {
				return fmt.Sprintf("%s, bit %d of both indexes: Verify says: %v", name, bit, err)
			}
		}
	}
	return ""
}

// index is where the first index of a file is, as its header says.
func (f *flips) index(d *durabletest.Disk, name string) (at, size int64) {
	h, err := d.Open(name)
	if err != nil {
		f.Fatal(err)
	}
	defer h.Close()
	b := make([]byte, 56)
	if _, err := h.ReadAt(b, 0); err != nil {
		f.Fatal(err)
	}
	return int64(binary.LittleEndian.Uint64(b[40:])), int64(binary.LittleEndian.Uint64(b[48:]))
}
