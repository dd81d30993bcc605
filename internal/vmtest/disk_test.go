package vmtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// client speaks NBD as QEMU does.
type client struct {
	t    *testing.T
	conn net.Conn
}

func (c client) send(fields ...any) {
	c.t.Helper()
	for _, f := range fields {
		if err := binary.Write(c.conn, binary.BigEndian, f); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c client) receive(v any) {
	c.t.Helper()
	if err := binary.Read(c.conn, binary.BigEndian, v); err != nil {
		c.t.Fatal(err)
	}
}

// dial negotiates, and returns the size of the disk.
func dial(t *testing.T, socket string) (client, uint64) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := client{t, conn}
	var greeting struct {
		Magic, Option uint64
		Flags         uint16
	}
	c.receive(&greeting)
	if greeting.Magic != nbdMagic || greeting.Option != nbdOption {
		t.Fatalf("greeting %+v", greeting)
	}
	var reply struct {
		Magic              uint64
		Option, Kind, Size uint32
	}
	c.send(uint32(1), uint64(nbdOption), uint32(8), uint32(0)) // structured replies
	if c.receive(&reply); reply.Kind != nbdUnsupported {
		t.Fatalf("reply %+v", reply)
	}
	c.send(uint64(nbdOption), uint32(nbdOptGo), uint32(6), uint32(0), uint16(0))
	var size uint64
	for reply.Kind != nbdAck {
		c.receive(&reply)
		p := make([]byte, reply.Size)
		c.receive(p)
		if reply.Kind == nbdInfo && binary.BigEndian.Uint16(p) == nbdInfoExport {
			size = binary.BigEndian.Uint64(p[2:])
		}
	}
	return c, size
}

// ask sends a request and returns what it answers for a reading; false when
// it fails.
func (c client) ask(kind, flags uint16, sector, sectors int, data []byte) ([]byte, bool) {
	c.t.Helper()
	c.send(uint32(nbdRequest), flags, kind, uint64(7), uint64(sector*sectorSize), uint32(sectors*sectorSize), data)
	var reply struct {
		Magic, Fault uint32
		Cookie       uint64
	}
	if err := binary.Read(c.conn, binary.BigEndian, &reply); err != nil {
		return nil, false
	}
	var p []byte
	if kind == nbdRead {
		p = make([]byte, sectors*sectorSize)
		c.receive(p)
	}
	return p, reply.Magic == nbdReply && reply.Fault == 0 && reply.Cookie == 7
}

func (c client) write(sector int, text string) bool {
	c.t.Helper()
	_, ok := c.ask(nbdWrite, 0, sector, len(text), letters(text))
	return ok
}

func (c client) flush() bool {
	c.t.Helper()
	_, ok := c.ask(nbdSync, 0, 0, 0, nil)
	return ok
}

// letters makes a sector of each letter.
func letters(text string) []byte {
	var p []byte
	for _, letter := range []byte(text) {
		p = append(p, bytes.Repeat([]byte{letter}, sectorSize)...)
	}
	return p
}

const testSectors = 8

// testDisk is a disk of dots.
func testDisk(t *testing.T) (*Disk, client) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "image")
	if err := os.WriteFile(path, letters("........"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDisk(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	c, size := dial(t, plugged(t, d, dir))
	if size != testSectors*sectorSize {
		t.Fatalf("%d bytes", size)
	}
	return d, c
}

func plugged(t *testing.T, d *Disk, dir string) string {
	t.Helper()
	socket := filepath.Join(dir, "nbd")
	o, err := d.plug(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.pull(); err != nil {
			t.Error(err)
		}
	})
	return socket
}

// image is the letters that the power cut has left.
func (d *Disk) image(t *testing.T) string {
	t.Helper()
	p := make([]byte, d.size)
	if _, err := d.file.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	var text []byte
	for i := 0; i < len(p); i += sectorSize {
		if !bytes.Equal(p[i:i+sectorSize], bytes.Repeat(p[i:i+1], sectorSize)) {
			t.Fatalf("sector %d is torn", i/sectorSize)
		}
		text = append(text, p[i])
	}
	return string(text)
}

func TestDisk(t *testing.T) {
	for _, c := range []struct {
		name  string
		lies  bool
		p     float64
		after func(client) bool
		want  string
		lost  int
	}{
		{"not flushed", false, 0, func(c client) bool { return c.write(1, "abc") }, "........", 3},
		{"not flushed, and kept", false, 1, func(c client) bool { return c.write(1, "abc") && c.write(2, "x") }, ".axc....", 0},
		{"flushed", false, 0, func(c client) bool { return c.write(1, "abc") && c.flush() && c.write(3, "xy") }, ".abc....", 2},
		{"at once", false, 0, func(c client) bool {
			_, ok := c.ask(nbdWrite, nbdFUA, 6, 2, letters("fu"))
			return ok
		}, "......fu", 0},
		{"flushed, says a liar", true, 0, func(c client) bool { return c.write(1, "abc") && c.flush() }, "........", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, conn := testDisk(t)
			if c.lies {
				d.Lie()
			}
			if !c.after(conn) {
				t.Fatal("refused")
			}
			_, lost, err := d.Cut(rand.New(rand.NewPCG(1, 1)), c.p)
			if got := d.image(t); got != c.want || lost != c.lost || err != nil {
				t.Errorf("%s, %d lost, %v; want %s, %d", got, lost, err, c.want, c.lost)
			}
		})
	}
}

// TestDiskReads sees what was written before it is flushed.
func TestDiskReads(t *testing.T) {
	_, c := testDisk(t)
	c.write(2, "ab")
	c.write(3, "c")
	p, ok := c.ask(nbdRead, 0, 1, 4, nil)
	if !ok || !bytes.Equal(p, letters(".ac.")) {
		t.Errorf("%v: %q", ok, p)
	}
}

// TestDiskVersions: of two writings of a sector, either may survive.
func TestDiskVersions(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(64) {
		d, c := testDisk(t)
		c.write(0, "a")
		c.write(0, "b")
		if _, _, err := d.Cut(rand.New(rand.NewPCG(seed, 0)), .5); err != nil {
			t.Fatal(err)
		}
		seen[d.image(t)[:1]] = true
	}
	if len(seen) != 3 {
		t.Errorf("survived: %v", seen)
	}
}

// TestDiskTrip: what comes after the stop is not done.
func TestDiskTrip(t *testing.T) {
	d, c := testDisk(t)
	tripped := d.Trip(3)
	if !c.write(0, "a") || !c.flush() {
		t.Fatal("refused")
	}
	select {
	case <-tripped:
		t.Fatal("too early")
	default:
	}
	c.send(uint32(nbdRequest), uint16(0), uint16(nbdSync), uint64(7), uint64(0), uint32(0)) // is not answered
	<-tripped
	c.send(uint32(nbdRequest), uint16(0), uint16(nbdWrite), uint64(8), uint64(0), uint32(sectorSize), letters("x"))
	c.conn.Close()
	if _, lost, err := d.Cut(rand.New(rand.NewPCG(1, 1)), 0); lost != 0 || err != nil {
		t.Errorf("%d lost, %v", lost, err)
	}
	if got := d.image(t); got != "a......." {
		t.Error(got)
	}
}

// TestDiskCheck: a file system with errors is mended, and what is none is an
// error.
func TestDiskCheck(t *testing.T) {
	if missing := Missing(); missing != nil {
		t.Skipf("skip: no machines here: %v not installed", missing)
	}
	d, err := FormatDisk(filepath.Join(t.TempDir(), "disk"), 16<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Check(); err != nil {
		t.Error(err)
	}
	if _, err := run("", "debugfs", "-w", "-R", "set_super_value state 2", d.file.Name()); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(); err != nil {
		t.Error(err)
	}
	if _, err := d.file.WriteAt(make([]byte, 16<<20), 0); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(); err == nil {
		t.Error("zeros are a file system")
	}
}
