// Package terminal keeps a program's terminal alive while its viewers come
// and go: a Hub relays the master of a pty to any number of connections, and
// Attach joins a person's terminal to one of them.
package terminal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/wakepoint/wakepoint/internal/screen"
)

// The stream between a viewer and a hub is a sequence of frames in both
// directions. Numbers are big endian.
//
//	offset  size  field
//	0       1     kind
//	1       4     length of the payload, at most 65536
//	5       len   payload
//
//	kind  from    payload
//	1     viewer  hello: version (1 byte, 1), flags (1 byte; bit 0: read only,
//	              bit 1: it was here before, and shows nothing else), rows (2),
//	              columns (2); the first frame, and only the first
//	2     both    data: bytes typed, bytes shown
//	3     viewer  resize: rows (2), columns (2)
//	4     viewer  detach: empty
//	5     hub     end: the program's wait status as wait(2) encodes it (4 bytes),
//	              or empty when it is not known; the last frame
//
// The hub says nothing before it has read the hello. One that ends its side of
// the stream without an end has left the terminal to another, which the viewer
// finds where it found this one; until the viewer closes its side, what it has
// sent is read. A frame is valid if its
// kind is known, its length is the one of its kind, and it came whole. After
// an invalid frame the connection is closed.
const (
	kindHello  = 1
	kindData   = 2
	kindResize = 3
	kindDetach = 4
	kindEnd    = 5
)

const (
	frameVersion = 1
	headerBytes  = 5
	payloadMax   = 64 << 10

	flagReadOnly = 1 << 0
	flagAgain    = 1 << 1
)

// errFrame says that the other side does not speak this protocol.
var errFrame = errors.New("invalid frame")

// size is a terminal's size in characters. 0x0 means that nobody knows.
type size struct {
	rows, cols uint16
}

func (s size) known() bool { return s.rows > 0 && s.cols > 0 }

func (s size) screen() screen.Size { return screen.Size{Rows: int(s.rows), Cols: int(s.cols)} }

// hello is what a viewer says first.
type hello struct {
	readOnly bool
	again    bool
	size     size
}

// appendFrame appends one frame to b.
func appendFrame(b []byte, kind byte, payload []byte) []byte {
	b = append(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// readFrame reads one frame into buf, which it grows as needed, and returns
// its kind and payload. io.EOF means that the stream ended between two frames.
func readFrame(r io.Reader, buf []byte) (byte, []byte, error) {
	var head [headerBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, buf, err
	}
	kind, n := head[0], binary.BigEndian.Uint32(head[1:])
	if err := checkFrame(kind, n); err != nil {
		return 0, buf, err
	}
	if cap(buf) < int(n) {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, buf, err
	}
	return kind, buf, nil
}

func checkFrame(kind byte, n uint32) error {
	ok := false
	switch kind {
	case kindHello:
		ok = n == 6
	case kindData:
		ok = n <= payloadMax
	case kindResize:
		ok = n == 4
	case kindDetach:
		ok = n == 0
	case kindEnd:
		ok = n == 0 || n == 4
	}
	if !ok {
		return fmt.Errorf("%w: kind %d with %d bytes", errFrame, kind, n)
	}
	return nil
}

func (h hello) encode() []byte {
	var flags byte
	if h.readOnly {
		flags |= flagReadOnly
	}
	if h.again {
		flags |= flagAgain
	}
	return append([]byte{frameVersion, flags}, h.size.encode()...)
}

func decodeHello(p []byte) (hello, error) {
	if len(p) != 6 {
		return hello{}, errFrame
	}
	if p[0] != frameVersion {
		return hello{}, fmt.Errorf("terminal protocol version %d is not known here (%d is)", p[0], frameVersion)
	}
	s, err := decodeSize(p[2:])
	return hello{readOnly: p[1]&flagReadOnly != 0, again: p[1]&flagAgain != 0, size: s}, err
}

func (s size) encode() []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, s.rows), s.cols)
}

func decodeSize(p []byte) (size, error) {
	if len(p) != 4 {
		return size{}, errFrame
	}
	return size{rows: binary.BigEndian.Uint16(p), cols: binary.BigEndian.Uint16(p[2:])}, nil
}
