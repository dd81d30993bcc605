package vmtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
)

// sectorSize is what a disk writes whole or not at all.
const sectorSize = 512

// Disk is a disk with a cache that the power cut empties. Writes are seen at
// once by whoever reads, and stand in the file only when they were flushed, or
// as a cut lets them survive. It is plugged into one machine at a time.
type Disk struct {
	mu      sync.Mutex // guards what follows
	lies    bool
	file    *os.File
	size    int64
	pending []piece          // written and not flushed, in this order
	cached  map[int64][]byte // the newest of those, by sector
	fuse    int              // writes and flushes until it stops; 0: never
	tripped chan struct{}
	flushes int
	err     error // the first of the file
}

// piece is a sector that was written.
type piece struct {
	sector int64
	data   []byte
}

// FormatDisk makes a disk with an empty ext4 on it.
func FormatDisk(path string, sizeBytes int64) (*Disk, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(sizeBytes); err != nil {
		f.Close()
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	if _, err := run("", "mkfs.ext4", "-q", "-F", path); err != nil {
		return nil, err
	}
	return OpenDisk(path)
}

// OpenDisk makes a disk of an image. The image changes as the disk does.
func OpenDisk(path string) (*Disk, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && st.Size()%sectorSize != 0 {
		err = fmt.Errorf("%s: %d bytes are no whole sectors", path, st.Size())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Disk{file: f, size: st.Size(), cached: map[int64][]byte{}}, nil
}

// Check mends the file system on the disk as boots do, before they mount it: by
// e2fsck -p, which replays the journal. No machine may have the disk. A commit
// block of which some sectors are old is more than the kernel mends by itself.
func (d *Disk) Check() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := run("", "e2fsck", "-p", d.file.Name())
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil // it was mended
	}
	return err
}

// Close closes the image. What was not flushed is lost.
func (d *Disk) Close() error { return d.file.Close() }

// Flushes is how often a machine has asked for what it wrote to be made safe.
func (d *Disk) Flushes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.flushes
}

// Lie makes the disk confirm every flush from now on and do none.
func (d *Disk) Lie() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lies = true
}

// Trip makes the disk stop at the n-th write or flush from now on: that one is
// never answered, nor anything after it. What it wrote may survive the cut. The
// channel is closed when that has happened.
func (d *Disk) Trip(n int) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fuse, d.tripped = n, make(chan struct{})
	return d.tripped
}

// burn counts a write or a flush, and says whether the disk stops at it.
func (d *Disk) burn() bool {
	if d.fuse == 0 {
		return false
	}
	d.fuse--
	if d.fuse > 0 {
		return false
	}
	close(d.tripped)
	return true
}

// Cut takes the power away. Each sector that was written and not flushed is in
// the image afterwards with probability p, each time that it was written on its
// own. It returns how many were and were not. The machine must have been cut
// before.
func (d *Disk) Cut(r *rand.Rand, p float64) (kept, lost int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, piece := range d.pending {
		if r.Float64() >= p {
			lost++
			continue
		}
		kept++
		d.put(piece.data, piece.sector*sectorSize)
	}
	d.forget()
	d.fuse = 0
	return kept, lost, d.err
}

func (d *Disk) forget() {
	d.pending, d.cached = nil, map[int64][]byte{}
}

// put writes to the image.
func (d *Disk) put(p []byte, at int64) {
	if _, err := d.file.WriteAt(p, at); err != nil && d.err == nil {
		d.err = err
	}
}

// read fills p as the machine sees the disk.
func (d *Disk) read(p []byte, at int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.file.ReadAt(p, at); err != nil {
		return err
	}
	for i := int64(0); i < int64(len(p)); i += sectorSize {
		if data, ok := d.cached[(at+i)/sectorSize]; ok {
			copy(p[i:], data)
		}
	}
	return nil
}

// write takes p into the cache; with through, past it. ok is false when the
// disk has stopped.
func (d *Disk) write(p []byte, at int64, through bool) (ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	stops := d.burn()
	for i := int64(0); i < int64(len(p)); i += sectorSize {
		sector := (at + i) / sectorSize
		data := append([]byte(nil), p[i:i+sectorSize]...)
		d.pending = append(d.pending, piece{sector, data})
		d.cached[sector] = data
	}
	if through && !stops {
		d.commit() // more than was asked for, as disks may
	}
	return !stops
}

// flush makes everything that was written safe, or says so.
func (d *Disk) flush() (ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.burn() {
		return false
	}
	d.flushes++
	d.commit()
	return true
}

func (d *Disk) commit() {
	if d.lies {
		return
	}
	for sector, data := range d.cached {
		d.put(data, sector*sectorSize)
	}
	d.forget()
}
