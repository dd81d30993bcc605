package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/api"
)

const (
	requestWait = 10 * time.Second // for a caller to say what it wants
	closeWait   = 2 * time.Second  // for callers to take the last answers
)

// server answers on the keeper's socket.
type server struct {
	k       *keeper
	l       *net.UnixListener
	release func()
	serving sync.WaitGroup

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]struct{}
	over  bool
}

// listen opens the socket in the workload's directory. The caller holds the
// workload's lock, so that a socket that is there belongs to nobody.
func listen(k *keeper) (*server, error) {
	path, release, err := api.Address(k.v.Dir())
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
	s := &server{k: k, l: l, release: release, conns: map[net.Conn]struct{}{}}
	s.serving.Add(1)
	go s.accept()
	return s, nil
}

func (s *server) accept() {
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

func (s *server) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.conns[c] = struct{}{}
	s.serving.Add(1)
	return true
}

func (s *server) drop(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// deaf stops listening and removes the socket.
func (s *server) deaf() {
	_ = s.l.Close()
	s.release()
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
}

// close lets go of the callers; those that do not take their last answer in
// time are cut off.
func (s *server) close() {
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

// answer serves one connection.
func (s *server) answer(c *net.UnixConn) {
	if err := checkPeer(c); err != nil {
		_ = api.WriteLine(c, api.Reply{Done: true, Error: s.k.explain(err)})
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(requestWait))
	var q api.Request
	if err := api.ReadLine(c, &q); err != nil {
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	if q.Version > api.Version {
		err := api.Errorf(api.CodeFailed, "the keeper runs an older program: restart it", "request of version %d", q.Version)
		_ = api.WriteLine(c, api.Reply{Done: true, Error: err})
		return
	}
	if q.Op == api.OpAttach {
		s.attach(c)
		return
	}
	_ = api.WriteLine(c, s.reply(c, q))
}

// checkPeer admits the keeper's own user and root (SO_PEERCRED, unix(7)).
func checkPeer(c *net.UnixConn) error {
	cred, err := peer(c)
	if err != nil {
		return err
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return api.Errorf(api.CodeFailed, "", "only the workload's owner may ask its keeper")
	}
	return nil
}

// peer says who is at the other end.
func peer(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return nil, err
	}
	return cred, cerr
}

// reply finds the answer to one request.
func (s *server) reply(c net.Conn, q api.Request) api.Reply {
	k := s.k
	st := k.status()
	switch q.Op {
	case api.OpStatus:
		return api.Reply{Done: true, Status: &st}
	case api.OpSignal:
		if closed(c) {
			return api.Reply{Done: true}
		}
		return api.Reply{Done: true, Error: k.explain(k.signal(q.Signal))}
	case api.OpWait:
		gone, stop := hangup(c)
		defer stop()
		select {
		case <-k.released:
		case <-gone:
		}
		st = k.status()
		return api.Reply{Done: true, Status: &st}
	}
	return s.enqueue(c, q)
}

// enqueue hands a request to the loop.
func (s *server) enqueue(c net.Conn, q api.Request) api.Reply {
	k := s.k
	r := &request{Request: q, reply: make(chan api.Reply, 1)}
	r.progress = func(words string) { _ = api.WriteLine(c, api.Reply{Progress: words}) }
	r.gone = func() bool { return closed(c) }
	ended := func() api.Reply {
		st := k.status()
		if q.Op == api.OpStop || q.Op == api.OpRemove {
			return api.Reply{Done: true, Status: &st} // that is what was wanted
		}
		return api.Reply{Done: true, Error: api.Errorf(api.CodeFailed, "", "the workload has just ended")}
	}
	select {
	case k.requests <- r:
	case <-k.released:
		if r := ended(); r.Error == nil {
			return r
		}
		return api.Reply{Done: true, Left: true} // it is as if we had never been there
	}
	select {
	case out := <-r.reply:
		if out.Status != nil && out.Status.State != api.Running && !r.stays {
			<-k.released
		}
		return out
	case <-k.released:
	}
	select {
	case out := <-r.reply:
		return out
	default:
		return ended()
	}
}

// closed says that the other end has closed the connection.
func closed(c net.Conn) bool {
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
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		over = err == nil && n == 0 || errors.Is(err, unix.ECONNRESET)
	})
	return err != nil || over
}

// hangup tells when the caller goes away.
func hangup(c net.Conn) (gone <-chan struct{}, stop func()) {
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

// signal sends a signal to the command, whatever the loop is doing.
func (k *keeper) signal(sig int) error {
	k.mu.Lock()
	t := k.live
	k.mu.Unlock()
	if t == nil {
		return api.Errorf(api.CodeFailed, "", "it does not run just now")
	}
	return t.Signal(sig)
}

// attach makes the connection the terminal's.
func (s *server) attach(c *net.UnixConn) {
	s.k.mu.Lock()
	hub, name := s.k.seen, s.k.view.Name
	s.k.mu.Unlock()
	if hub == nil {
		err := api.Errorf(api.CodeFailed, "start it with `wakepoint run -t -- CMD`; `wakepoint logs "+name+"` shows what it printed", "it has no terminal")
		_ = api.WriteLine(c, api.Reply{Done: true, Error: err})
		return
	}
	if err := api.WriteLine(c, api.Reply{Done: true}); err != nil {
		return
	}
	if err := hub.Serve(c); err != nil {
		s.k.log.Info("viewer", "err", err)
	}
}

// runServed runs f while the socket is served. Whoever waits for the
// workload's end hears of it when free has let go of the workload.
func (k *keeper) runServed(ctx context.Context, free func(), f func(context.Context) error) error {
	s, err := listen(k)
	if err != nil {
		free()
		return err
	}
	err = f(ctx)
	s.deaf() // while the socket is still ours
	free()
	close(k.released)
	s.close()
	return err
}
