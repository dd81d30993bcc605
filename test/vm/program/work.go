//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"
)

const (
	tick      = 5 * time.Millisecond
	tableSize = 1 << 14 // entries of 16 bytes
	thorough  = 50      // ticks from one look at everything to the next
	doom      = 600     // ticks that are left to live with poison

	pageSize = 4096

	wordsName  = "words"  // rewritten: what it knows of itself
	ledgerName = "ledger" // rewritten in place: the table once more
	trailName  = "trail"  // only grows: 8 bytes for each count

	// poison is a file that spoils whoever finds it first, and is gone then.
	poison = "/run/poison"
	// mercy is a file that keeps alive who is spoilt. A boot takes it away.
	mercy = "/run/mercy"
)

// entry is a row of the table: a count and what can be told from it.
type entry struct{ count, mixed uint64 }

func (e entry) encode() []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, e.count), e.mixed)
}

// mix is the finalizer of MurmurHash3: any change of a bit shows.
func mix(n uint64) uint64 {
	n = (n ^ n>>33) * 0xff51afd7ed558ccd
	n = (n ^ n>>33) * 0xc4ceb9fe1a85ec53
	return n ^ n>>33
}

// words is what a worker says of itself: 8 bytes of count, 8 bytes of how often
// something was wrong, and 4 bytes of CRC-32 (IEEE), in little endian.
type words struct{ count, wrong uint64 }

const wordsSize = 20

func (w words) encode() []byte {
	p := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, w.count), w.wrong)
	return binary.LittleEndian.AppendUint32(p, crc32.ChecksumIEEE(p))
}

func readWords(f *os.File) (words, error) {
	p := make([]byte, wordsSize)
	if _, err := f.ReadAt(p, 0); err != nil {
		return words{}, err
	}
	if crc32.ChecksumIEEE(p[:16]) != binary.LittleEndian.Uint32(p[16:]) {
		return words{}, errors.New("its words are none")
	}
	return words{binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])}, nil
}

// worker counts. What it has counted stands in memory and in its files, and
// each must always tell the same.
type worker struct {
	words  words
	table  [tableSize]entry
	pages  uint64
	mass   []byte // these pages, one of which is written anew for each count
	doom   int    // ticks left to live; 0: it is not poisoned
	public *os.File
	ledger *os.File
	trail  *os.File
}

func work(dir string, pages uint64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	w := &worker{pages: pages, mass: make([]byte, pages*pageSize)}
	for k := range pages {
		fill(w.page(k), k, 0)
	}
	for _, f := range []struct {
		file **os.File
		name string
		flag int
	}{{&w.public, wordsName, 0}, {&w.ledger, ledgerName, 0}, {&w.trail, trailName, os.O_APPEND}} {
		file, err := os.OpenFile(filepath.Join(dir, f.name), os.O_RDWR|os.O_CREATE|os.O_TRUNC|f.flag, 0o644)
		if err != nil {
			return err
		}
		*f.file = file
	}
	if _, err := w.public.WriteAt(w.words.encode(), 0); err != nil {
		return err
	}
	for range time.Tick(tick) {
		if err := w.step(); err != nil {
			return err
		}
	}
	return nil
}

// page is the kth.
func (w *worker) page(k uint64) []byte { return w.mass[k*pageSize:][:pageSize] }

// fill writes what stands in page k when count n has been written to it.
func fill(page []byte, k, n uint64) {
	for i := 0; i < len(page); i += 8 {
		binary.LittleEndian.PutUint64(page[i:], mix(k<<40^n<<10^uint64(i)))
	}
}

// feel compares page k with what was written to it last.
func (w *worker) feel(k uint64) {
	n := uint64(0)
	if w.words.count >= k {
		n = w.words.count - (w.words.count-k)%w.pages
	}
	want := make([]byte, pageSize)
	if fill(want, k, n); string(want) != string(w.page(k)) {
		w.complain("page %d in memory is not that of %d", k, n)
	}
}

// step compares what it knows, and counts.
func (w *worker) step() error {
	if w.words.count%thorough == 0 {
		w.look()
	}
	if public, err := readWords(w.public); err != nil || public.count != w.words.count {
		w.complain("its file says %v, %v; it has counted %d", public, err, w.words.count)
	}
	w.words.count++
	e := entry{w.words.count, mix(w.words.count)}
	place := e.count % tableSize
	w.table[place] = e
	fill(w.page(e.count%w.pages), e.count%w.pages, e.count)
	w.feel(e.mixed % w.pages)
	if _, err := w.ledger.WriteAt(e.encode(), int64(place)*16); err != nil {
		return err
	}
	if _, err := w.trail.Write(e.encode()[8:]); err != nil {
		return err
	}
	if _, err := w.public.WriteAt(w.words.encode(), 0); err != nil {
		return err
	}
	return w.taste()
}

// complain notes something wrong, for good.
func (w *worker) complain(format string, args ...any) {
	w.words.wrong++
	fmt.Printf("BAD at %d: %s\n", w.words.count, fmt.Sprintf(format, args...))
}

// look compares everything in memory and in the files with what it should be.
func (w *worker) look() {
	for c := w.words.count; c > 0 && c+tableSize > w.words.count; c-- {
		if e := w.table[c%tableSize]; e != (entry{c, mix(c)}) {
			w.complain("entry %d in memory is %v", c, e)
			break
		}
	}
	p := make([]byte, tableSize*16)
	n, _ := w.ledger.ReadAt(p, 0) // what is missing is wrong
	for c := w.words.count; c > 0 && c+tableSize > w.words.count; c-- {
		place := int(c % tableSize)
		if e := (entry{c, mix(c)}); place*16+16 > n || string(p[place*16:place*16+16]) != string(e.encode()) {
			w.complain("entry %d in the ledger is %x", c, p[place*16:place*16+16])
			break
		}
	}
	last := make([]byte, 8)
	st, err := w.trail.Stat()
	if err == nil && w.words.count > 0 {
		_, err = w.trail.ReadAt(last, st.Size()-8)
	}
	if err != nil || st.Size() != int64(w.words.count)*8 ||
		w.words.count > 0 && binary.LittleEndian.Uint64(last) != mix(w.words.count) {
		w.complain("the trail ends with %x: %v", last, err)
	}
}

// taste is how a program gets spoilt and dies of it later.
func (w *worker) taste() error {
	switch {
	case w.doom == 1:
		return errors.New("poisoned")
	case w.doom > 0:
		if _, err := os.Stat(mercy); err != nil {
			w.doom--
		}
	case os.Remove(poison) == nil:
		w.doom = doom
	}
	return nil
}
