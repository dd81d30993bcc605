package notify

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	otherMax   = 3 * time.Second       // for a guard whose keeper has died to see that another has one
	otherAgain = 50 * time.Millisecond // between looks at it
)

// Pocket keeps the socket for who listens after us, however we end.
type Pocket interface {
	Look(name string) (*os.File, error)
	Put(name string, c syscall.Conn) error
	Note(name string, data []byte) error
	Noted(name string) ([]byte, error)
}

// Kept is the socket's name in a pocket.
const Kept = "notify"

// keptWords is the name of what was said: Words in JSON.
const keptWords = "said"

// Resume is Listen for one of several that listen in turn: it goes on with the
// socket of the one before, to which the program may be connected, and with what
// was said meanwhile. Where the pocket does not hold it, or nothing leads to it
// any more, it binds another. One that somebody still has in another pocket is
// waited for.
//
// While nobody listens a program that says more than fits (max_dgram_qlen,
// unix(7)) waits, or is refused where it does not wait. So a pocket is for those
// who live no longer than somebody is to come.
func Resume(path string, p Pocket, log *slog.Logger) (*Ear, error) {
	if f, err := p.Look(Kept); err == nil {
		conn := bound(f, path)
		_ = f.Close()
		if conn != nil {
			e := listenOn(conn, path, log)
			e.keeps, e.goes = p, true
			return e, nil
		}
	}
	for end := time.Now().Add(otherMax); ; time.Sleep(otherAgain) {
		e, err := Listen(path, log)
		if err == nil {
			if err := p.Put(Kept, e.conn); err != nil {
				log.Warn("keep the notify socket for the next keeper", "err", err)
			}
			e.keeps = p
			return e, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			return nil, err
		}
	}
}

// bound is the socket in f if it is the one at path; else nil.
func bound(f *os.File, path string) *net.UnixConn {
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil
	}
	conn, ok := c.(*net.UnixConn)
	if ok && conn.LocalAddr().String() == path {
		if to, err := net.Dial("unixgram", path); err == nil {
			_ = to.Close()
			return conn
		}
	}
	_ = c.Close()
	return nil
}

// Resumed says whether the socket is the one that was there before.
func (e *Ear) Resumed() bool { return e.goes }

// noted is what was said to the one before.
func (e *Ear) noted() (said Words) {
	data, err := e.keeps.Noted(keptWords)
	if err == nil && data != nil {
		err = json.Unmarshal(data, &said)
	}
	if err != nil {
		e.log.Warn("what the program said to the keeper before", "err", err)
		return Words{}
	}
	return said
}

// note keeps what was said for who listens next; mu is held.
func (e *Ear) note(said Words) {
	if e.keeps == nil {
		return
	}
	data, err := json.Marshal(said)
	if err == nil {
		err = e.keeps.Note(keptWords, data)
	}
	if err != nil {
		e.log.Warn("keep what the program said", "err", err)
	}
}
