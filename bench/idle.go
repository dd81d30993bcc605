package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/wakepoint/wakepoint/durable/session"
)

const (
	idleSessions  = 100_000
	idleConnected = 2_000 // of these, spread over them, have a client in another process
)

// idleCost measures what sessions take that do nothing, each with one request done,
// and how soon clients can go on with them after a restart.
func idleCost(c config) error {
	dir, remove, err := c.scratch("idle")
	if err != nil {
		return err
	}
	defer remove()
	s, err := openSite(dir, c.budget)
	if err != nil {
		return err
	}
	before := memory()
	l, err := listen(dir)
	if err != nil {
		return err
	}
	g := &gate{Listener: l, open: make(chan struct{}, idleConnected)}
	go s.server.Serve(g) // it is closed below, and says so
	child, out, said, err := c.task("clients", ours, dir).start()
	if err != nil {
		return err
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	lines, r := json.NewDecoder(out), result{}
	err = s.makeIdle(g.open)
	if err == nil {
		err = lines.Decode(&r)
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, said)
	}
	if err := s.server.Close(); err != nil {
		return err
	}
	each := float64(memory()-before) / idleSessions
	if err := s.db.Close(); err != nil {
		return err
	}
	if err := c.chill(dir); err != nil {
		return err
	}
	return c.idleAgain(dir, each, child.Process, lines)
}

// makeIdle makes sessions with a request each, beside those of the clients, each of which
// is let in when so many were made.
func (s *site) makeIdle(in chan<- struct{}) error {
	ctx := context.Background()
	var wg sync.WaitGroup
	errs := make([]error, parallel)
	for w := range parallel {
		wg.Go(func() {
			for n := w; n < idleSessions && errs[w] == nil; n += parallel {
				if n%(idleSessions/idleConnected) == 0 {
					in <- struct{}{}
					continue
				}
				credential, err := s.server.NewCredential(ctx, "somebody")
				if err == nil {
					err = s.requests(ctx, true, []uint64{credential.Session}, 1)
				}
				errs[w] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// idleAgain opens what is there again, and waits until the clients have gone on.
func (c config) idleAgain(dir string, each float64, clients *os.Process, lines *json.Decoder) error {
	begun := time.Now()
	s, err := openSite(dir, c.budget)
	if err != nil {
		return err
	}
	opened := time.Since(begun)
	l, err := listen(dir)
	if err != nil {
		return err
	}
	go s.server.Serve(l) // it is closed below, and says so
	r := result{}
	if err := lines.Decode(&r); err != nil {
		return err
	}
	resumed := time.Unix(0, int64(r["last"])).Sub(begun)
	if err := s.db.Load(context.Background()); err != nil {
		return err
	}
	loaded := time.Since(begun)
	connected, running := memory(), runtime.NumGoroutine()
	if err := clients.Kill(); err != nil {
		return err
	}
	for wait := time.Now(); runtime.NumGoroutine() > running-2*idleConnected; time.Sleep(10 * time.Millisecond) {
		if time.Since(wait) > time.Minute {
			return fmt.Errorf("%d goroutines are left of %d, and nobody is connected", runtime.NumGoroutine(), running)
		}
	}
	time.Sleep(time.Second) // until the last of them has ended
	fmt.Printf("\nsessions: %d idle ones, with a request each; %d, spread over them, have a client\n", idleSessions, idleConnected)
	fmt.Printf("  opened in %v, the last of %d clients had a reply after %v, all in memory after %v\n",
		opened.Round(time.Millisecond), idleConnected, resumed.Round(time.Millisecond), loaded.Round(time.Millisecond))
	fmt.Printf("  an idle connection of the server: %.0f bytes, stacks included, and %.1f goroutines\n",
		float64(connected-memory())/idleConnected, float64(running-runtime.NumGoroutine())/idleConnected)
	atMost("memory of an idle session, bytes", each, 1024)
	atMost(fmt.Sprintf("restart to the last of %d resumed, of the budget", idleConnected), resumed.Seconds()/c.budget.Seconds(), 1)
	return s.close()
}

// memory is what is alive, and stacks.
func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func socketOf(dir string) string { return filepath.Join(dir, "socket") }

func listen(dir string) (net.Listener, error) {
	_ = os.Remove(socketOf(dir)) // of one that was killed
	return net.Listen("unix", socketOf(dir))
}

// gate lets a connection in when it is told to.
type gate struct {
	net.Listener
	open chan struct{}
}

func (g *gate) Accept() (net.Conn, error) {
	c, err := g.Listener.Accept()
	if err == nil {
		<-g.open
	}
	return c, err
}

// keepClients connects clients that ask once, and once more when their connection has
// ended. It prints when the last of them had its reply: a session was gone on with then.
func keepClients(t task, _ maker) (engine, result, error) {
	type one struct {
		c    *session.Client
		lost chan struct{}
	}
	var clients []one
	ctx := context.Background()
	for range idleConnected {
		lost, dials := make(chan struct{}), 0
		c, err := session.Dial(ctx, session.DialOptions{Dial: func(ctx context.Context) (net.Conn, error) {
			if dials++; dials == 2 {
				close(lost)
			}
			return dialSoon(ctx, socketOf(t.Dir))
		}})
		if err == nil {
			_, err = c.Call(ctx, bodyOf(0))
		}
		if err != nil {
			return nil, nil, err
		}
		clients = append(clients, one{c, lost})
	}
	if err := (result{"connected": idleConnected}).print(); err != nil {
		return nil, nil, err
	}
	var wg sync.WaitGroup
	errs := make([]error, len(clients))
	for i, k := range clients {
		wg.Go(func() {
			<-k.lost
			_, errs[i] = k.c.Call(ctx, bodyOf(0))
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	if err := (result{"last": float64(time.Now().UnixNano())}).print(); err != nil {
		return nil, nil, err
	}
	select {} // until it is killed
}

// dialSoon waits for a server, with less patience than a client has: that is not to be
// measured.
func dialSoon(ctx context.Context, socket string) (net.Conn, error) {
	for {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", socket)
		if err == nil || ctx.Err() != nil {
			return c, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
