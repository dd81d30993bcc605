package terminal

import (
	"net"
	"sync"
	"time"
)

// viewer is the sending half of one connection: a bounded queue that a
// goroutine of its own writes out, so that the hub never waits for a viewer.
type viewer struct {
	conn net.Conn
	wake chan struct{} // one token: the queue or the state changed

	mu    sync.Mutex // guards what follows
	queue []byte     // whole frames
	last  bool       // nothing will follow the queue
	parts bool       // it goes to another hub: it may still say what it has typed
	err   error      // why the hub let the viewer go
}

func newViewer(conn net.Conn) *viewer {
	return &viewer{conn: conn, wake: make(chan struct{}, 1)}
}

// queueData queues output. When more than limit bytes wait already the viewer
// is let go, and false is returned.
func (v *viewer) queueData(p []byte, limit int) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.last {
		return false
	}
	if len(v.queue)+len(p) > limit {
		v.err, v.last, v.queue = errSlow, true, nil
		v.conn.Close()
		v.nudge()
		return false
	}
	for len(p) > 0 {
		n := min(len(p), payloadMax)
		v.queue = appendFrame(v.queue, kindData, p[:n])
		p = p[n:]
	}
	v.nudge()
	return true
}

// end queues the end frame and lets the viewer go once it has read it.
func (v *viewer) end(status []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.last {
		return
	}
	v.queue = appendFrame(v.queue, kindEnd, status)
	v.last = true
	v.conn.SetWriteDeadline(time.Now().Add(flushWait))
	v.conn.SetReadDeadline(time.Now().Add(flushWait))
	v.nudge()
}

// part sends the viewer to another hub. What waits for it is not sent: the other
// one shows it the whole screen.
func (v *viewer) part() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.last {
		return
	}
	v.last, v.parts, v.queue = true, true, nil
	v.conn.SetWriteDeadline(time.Unix(1, 0))
	v.conn.SetReadDeadline(time.Now().Add(flushWait))
	v.nudge()
}

// finish lets send return: the viewer is gone.
func (v *viewer) finish() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.last {
		v.last, v.queue = true, nil
		v.conn.SetWriteDeadline(time.Unix(1, 0))
	}
	v.nudge()
}

func (v *viewer) nudge() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// send writes the queue out until the viewer is gone or was told the end.
func (v *viewer) send() {
	var spare []byte
	for range v.wake {
		v.mu.Lock()
		out, last, parts := v.queue, v.last, v.parts
		v.queue, spare = spare[:0], nil
		v.mu.Unlock()
		if len(out) > 0 {
			if _, err := v.conn.Write(out); err != nil && !v.leaves() {
				v.conn.Close() // listen notices
				return
			}
		}
		if half, ok := v.conn.(interface{ CloseWrite() error }); parts && ok && half.CloseWrite() == nil {
			return // listen goes on until it closes its side
		}
		if last {
			v.conn.Close()
			return
		}
		if cap(out) <= payloadMax*2 {
			spare = out
		}
	}
}

// leaves says whether part was called.
func (v *viewer) leaves() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.parts
}

func (v *viewer) reason() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.err
}
