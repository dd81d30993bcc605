package api

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// closeWait is how long callers may take for their last answers.
const closeWait = 2 * time.Second

// Server is a keeper's side of the exchange: it listens on the socket of a
// workload.
type Server struct {
	answer  func(*net.UnixConn)
	l       *net.UnixListener
	release func()
	serving sync.WaitGroup

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]struct{}
	over  bool
}

// Listen opens the socket in the workload's directory and has each caller
// answered, at a time of its own; the connection is closed then. The caller holds
// the workload's lock, so that a socket that is there belongs to nobody.
func Listen(dir string, answer func(*net.UnixConn)) (*Server, error) {
	path, release, err := Address(dir)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		release()
		return nil, fmt.Errorf("listen: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		release()
		return nil, err
	}
	// Until here the directory, 0700, keeps others away.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		release()
		return nil, err
	}
	s := &Server{answer: answer, l: l, release: release, conns: map[net.Conn]struct{}{}}
	s.serving.Add(1)
	go s.accept()
	return s, nil
}

func (s *Server) accept() {
	defer s.serving.Done()
	for {
		c, err := s.l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // out of descriptors
			continue
		}
		if !s.add(c) {
			c.Close()
			return
		}
		go func() {
			defer s.serving.Done()
			defer s.drop(c)
			s.answer(c)
		}()
	}
}

func (s *Server) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.conns[c] = struct{}{}
	s.serving.Add(1)
	return true
}

func (s *Server) drop(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Deaf stops listening and removes the socket.
func (s *Server) Deaf() {
	_ = s.l.Close()
	s.release()
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
}

// Close lets go of the callers; those that do not take their last answer in
// time are cut off.
func (s *Server) Close() {
	done := make(chan struct{})
	go func() { s.serving.Wait(); close(done) }()
	select {
	case <-done:
		return
	case <-time.After(closeWait):
	}
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	<-done
}

// CheckPeer admits the keeper's own user and root (SO_PEERCRED, unix(7)).
func CheckPeer(c *net.UnixConn) error {
	cred, err := Peer(c)
	if err != nil {
		return err
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return Errorf(CodeFailed, "", "only the workload's owner may ask its keeper")
	}
	return nil
}

// Peer says who is at the other end.
func Peer(c *net.UnixConn) (*syscall.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *syscall.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return cred, cerr
}

// Closed says that the other end has closed the connection.
func Closed(c net.Conn) bool {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return true
	}
	over := false
	err = raw.Control(func(fd uintptr) {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		over = err == nil && n == 0 || errors.Is(err, syscall.ECONNRESET)
	})
	return err != nil || over
}

// Hangup tells when the caller goes away.
func Hangup(c net.Conn) (gone <-chan struct{}, stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1)
		_, _ = c.Read(b)
	}()
	return done, func() {
		_ = c.SetReadDeadline(time.Unix(1, 0))
		<-done
	}
}
