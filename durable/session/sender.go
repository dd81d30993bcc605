package session

import (
	"net"
	"sync"
	"time"
)

// sender sends frames from any goroutine, those that come together with one call.
type sender struct {
	c    net.Conn
	asks bool          // the other end has nothing to say but answers
	over chan struct{} // closed when nothing is sent any more

	mu     sync.Mutex
	more   *sync.Cond // there is something, or less, or it is the end
	buf    []byte
	ending bool
}

const (
	// sendMost is how long a connection may take each sendStep of what it is sent, in bytes.
	sendMost = time.Minute
	sendStep = 64 << 10
	// sendAhead is how much may wait for being sent before no more is asked for.
	sendAhead = 1 << 20
	// sendKept is the size of a buffer that is kept, in bytes.
	sendKept = 64 << 10
)

func newSender(c net.Conn, asks bool) *sender {
	s := &sender{c: c, asks: asks, over: make(chan struct{})}
	s.more = sync.NewCond(&s.mu)
	go s.run()
	return s
}

// send adds a frame to what is sent. It may get lost: whoever must know asks again.
func (s *sender) send(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return
	}
	s.buf = appendFrame(s.buf, m)
	s.more.Broadcast()
}

// room waits until not too much waits for being sent; false: nothing is sent any
// more.
func (s *sender) room() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.buf) > sendAhead && !s.ending {
		s.more.Wait()
	}
	return !s.ending
}

// last sends a frame behind which the connection is closed.
func (s *sender) last(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return
	}
	s.buf = appendFrame(s.buf, m)
	s.ending = true
	_ = s.c.SetWriteDeadline(time.Now().Add(byeMost)) // an error shows at the next call
	s.more.Broadcast()
}

// byeMost is how long a last frame may take.
const byeMost = time.Second

// close closes the connection when all is sent.
func (s *sender) close() {
	s.mu.Lock()
	s.ending = true
	s.more.Broadcast()
	s.mu.Unlock()
	<-s.over
}

func (s *sender) run() {
	defer close(s.over)
	defer s.c.Close()
	var buf []byte
	for {
		s.mu.Lock()
		for len(s.buf) == 0 && !s.ending {
			s.more.Wait()
		}
		if len(s.buf) == 0 {
			s.mu.Unlock()
			return
		}
		buf, s.buf = s.buf, buf[:0]
		s.more.Broadcast()
		s.mu.Unlock()
		if err := s.write(buf); err != nil {
			s.mu.Lock()
			s.ending, s.buf = true, nil
			s.more.Broadcast()
			s.mu.Unlock()
			return
		}
		if cap(buf) > sendKept {
			buf = nil
		}
	}
}

// write writes as long as the other end takes something. One that is still being asked
// is not silent.
func (s *sender) write(b []byte) error {
	for len(b) > 0 {
		s.mu.Lock()
		if !s.ending {
			_ = s.c.SetWriteDeadline(time.Now().Add(sendMost)) // an error shows at the next call
		}
		s.mu.Unlock()
		n, err := s.c.Write(b[:min(len(b), sendStep)])
		if err != nil {
			return err
		}
		if b = b[n:]; len(b) > 0 && s.asks {
			_ = s.c.SetReadDeadline(time.Now().Add(silence))
		}
	}
	return nil
}
