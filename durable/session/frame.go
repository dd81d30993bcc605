package session

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/wakepoint/wakepoint/durable"
)

// A frame is what one end sends to the other at once.
//
//	offset  size
//	0       4     length of what follows, big endian
//	4       1     kind
//	5             what the kind says: see message.go
const (
	frameHead = 4
	// frameMax is the size of a frame that nobody has proven anything in yet.
	frameMax = 16 << 10
)

// errFrame says that the other end does not keep to the protocol.
var errFrame = errors.New("session: malformed frame")

// appendFrame adds a frame to what is to be sent.
func appendFrame(dst []byte, m message) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0, m.kind())
	dst = m.append(dst)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-frameHead))
	return dst
}

// readFrame reads a frame of at most so many bytes. What it returns is the
// caller's. io.EOF: the other end has closed, between two frames.
func readFrame(r *bufio.Reader, most int) (message, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || uint64(n) > uint64(most) {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", errFrame, n, most)
	}
	b, err := readSome(r, int(n))
	if err != nil {
		return nil, err
	}
	return parse(b)
}

// bodyMost is the size of the largest body that any server can allow, in bytes: what
// was sent or kept under another one's Options.Largest is read all the same.
const bodyMost = durable.TransactionMax / 2

// patient reads from a connection as long as something comes.
type patient struct{ c net.Conn }

func (p patient) Read(b []byte) (int, error) {
	_ = p.c.SetReadDeadline(time.Now().Add(silence)) // an error shows at the next call
	return p.c.Read(b)
}

// rest is what a reader has read ahead.
func rest(r *bufio.Reader) io.Reader {
	b, _ := r.Peek(r.Buffered()) // never fails
	return bytes.NewReader(b)
}

// readSome reads n bytes, and takes no memory for what does not come.
func readSome(r *bufio.Reader, n int) ([]byte, error) {
	const step = 64 << 10
	b := make([]byte, 0, min(n, step))
	for len(b) < n {
		at := len(b)
		b = append(b, make([]byte, min(n-at, step))...)
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			return nil, io.ErrUnexpectedEOF
		}
	}
	return b, nil
}
