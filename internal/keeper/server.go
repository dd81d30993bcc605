package keeper

import (
	"context"
	"net"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
)

// requestWait is how long a caller may take to say what it wants.
const requestWait = 10 * time.Second

// server answers on the keeper's socket.
type server struct{ k *keeper }

// answer serves one connection.
func (s *server) answer(c *net.UnixConn) {
	if err := api.CheckPeer(c); err != nil {
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

// reply finds the answer to one request.
func (s *server) reply(c net.Conn, q api.Request) api.Reply {
	k := s.k
	st := k.status()
	switch q.Op {
	case api.OpStatus:
		return api.Reply{Done: true, Status: &st}
	case api.OpSignal:
		if api.Closed(c) {
			return api.Reply{Done: true}
		}
		return api.Reply{Done: true, Error: k.explain(k.signal(q.Signal))}
	case api.OpWait:
		gone, stop := api.Hangup(c)
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
	r.gone = func() bool { return api.Closed(c) }
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
	s, err := api.Listen(k.v.Dir(), (&server{k}).answer)
	if err != nil {
		free()
		return err
	}
	err = f(ctx)
	s.Deaf() // while the socket is still ours
	free()
	close(k.released)
	s.Close()
	return err
}
