package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/durable/session"
)

const (
	servedKeys   = 500_000 // of 200 bytes: 100 MB
	idleSessions = 100_000
	onceRequests = 200_000
)

// site is a database with sessions and a state.
type site struct {
	db     *durable.DB
	found  *durable.Recovery
	server *session.Server
	state  *durable.Table[uint64, []byte]
}

func openSite(dir string, budget time.Duration) (*site, error) {
	s := &site{state: durable.NewTable[uint64, []byte]("state")}
	tables := session.NewTables()
	var err error
	s.db, s.found, err = durable.Open(context.Background(), durable.Options{Dir: filepath.Join(dir, "db"), RecoveryBudget: budget}, append(tables.All(), s.state)...)
	if err != nil {
		return nil, err
	}
	s.server, err = session.NewServer(s.db, session.Options{
		Tables: tables,
		Keys:   [][]byte{make([]byte, session.KeySize)},
		Login:  func(context.Context, session.Peer) (string, error) { return "somebody", nil },
		Handle: s.handle,
	})
	return s, err
}

// handle puts a value of a key, and answers with eight bytes.
func (s *site) handle(tx *durable.Tx, r *session.Request) ([]byte, error) {
	s.state.Put(tx, binary.BigEndian.Uint64(r.Body)%servedKeys, r.Body)
	return r.Body[:8], nil
}

func (s *site) close() error {
	if err := s.server.Close(); err != nil {
		return err
	}
	return s.db.Close()
}

// runSessions measures what sessions cost, and how soon one goes on after a kill.
func runSessions(c config) error {
	for _, f := range []func(config) error{onceCost, idleCost, killToReply} {
		if err := f(c); err != nil {
			return err
		}
	}
	return nil
}

// onceCost measures what it costs that a request is done once, beside one that is only
// done: processor time, and bytes of the log.
func onceCost(c config) error {
	t := newTable(fmt.Sprintf("once: %d requests of 64 bytes, 64 in a transaction, median of %d rounds", onceRequests, c.rounds), "cpu us", "log bytes")
	for round := range c.rounds {
		for i := range 2 {
			once := (i+round)%2 == 1
			dir, remove, err := c.scratch("once")
			if err != nil {
				return err
			}
			cpu, log, err := onceRound(dir, once)
			if remove(); err != nil {
				return err
			}
			t.add(map[bool]string{false: "done", true: "done once"}[once], cpu, log)
		}
	}
	t.print()
	atMost("processor time of exactly once, us a request", t.median("done once", "cpu us")-t.median("done", "cpu us"), 1)
	atMost("log of exactly once, bytes a request", t.median("done once", "log bytes")-t.median("done", "log bytes"), 64)
	return nil
}

func onceRound(dir string, once bool) (cpu, log float64, err error) {
	ctx := context.Background()
	s, err := openSite(dir, time.Hour) // no checkpoint: the log has all
	if err != nil {
		return 0, 0, err
	}
	const clients = 64
	var sessions [clients]uint64
	for i := range sessions {
		credential, err := s.server.NewCredential(ctx, "somebody")
		if err != nil {
			return 0, 0, err
		}
		sessions[i] = credential.Session
	}
	runtime.GC()
	before, err := worked(nil)
	if err != nil {
		return 0, 0, err
	}
	for n := range uint64(onceRequests / clients) {
		if err := s.requests(ctx, once, sessions[:], n+1); err != nil {
			return 0, 0, err
		}
	}
	after, err := worked(nil)
	if err != nil {
		return 0, 0, err
	}
	if err := s.close(); err != nil {
		return 0, 0, err
	}
	s, err = openSite(dir, time.Hour)
	if err != nil {
		return 0, 0, err
	}
	return float64((after - before).Nanoseconds()) / 1e3 / onceRequests, float64(s.found.Bytes) / onceRequests, s.close()
}

// requests does a request of each session, once or not, in one transaction: what is
// measured is not the disk, nor who waits for whom.
func (s *site) requests(ctx context.Context, once bool, sessions []uint64, seq uint64) error {
	list := make([]*session.Request, len(sessions))
	for i, id := range sessions {
		body := make([]byte, 64)
		binary.BigEndian.PutUint64(body, seq*uint64(len(sessions))+uint64(i))
		var err error
		if list[i], err = s.server.Request(ctx, id, seq, seq, body); err != nil { // a client has the reply before it asks anew
			return err
		}
	}
	return s.db.Update(ctx, func(tx *durable.Tx) error {
		for _, r := range list {
			do := func() ([]byte, error) { return s.handle(tx, r) }
			var err error
			if once {
				_, err = s.server.Do(tx, r, do)
			} else {
				_, err = do()
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// idleCost measures what sessions take that do nothing, each with one request done,
// and how soon they are there again.
func idleCost(c config) error {
	ctx := context.Background()
	dir, remove, err := c.scratch("idle")
	if err != nil {
		return err
	}
	defer remove()
	s, err := openSite(dir, c.budget)
	if err != nil {
		return err
	}
	before := heap()
	var wg sync.WaitGroup
	errs := make(chan error, parallel)
	for range parallel {
		wg.Go(func() {
			for range idleSessions / parallel {
				credential, err := s.server.NewCredential(ctx, "somebody")
				if err == nil {
					err = s.requests(ctx, true, []uint64{credential.Session}, 1)
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	each := float64(heap()-before) / idleSessions
	if err := s.close(); err != nil {
		return err
	}
	begun := time.Now()
	if s, err = openSite(dir, c.budget); err != nil {
		return err
	}
	opened := time.Since(begun)
	if err := s.db.Load(ctx); err != nil {
		return err
	}
	loaded := time.Since(begun)
	fmt.Printf("\nsessions: %d idle ones, with a request each\n", idleSessions)
	fmt.Printf("  opened in %v, all in memory in %v\n", opened.Round(time.Millisecond), loaded.Round(time.Millisecond))
	atMost("memory of an idle session, bytes", each, 1024)
	atMost("restart to all resumable, of the budget", float64(loaded)/float64(c.budget), 1)
	return s.close()
}

// heap is what is alive.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

const startedName = "started"

// serveSessions serves until it is killed.
func serveSessions(t task, _ maker) (engine, result, error) {
	took := time.Now().UnixNano() - t.Begun
	if err := os.WriteFile(filepath.Join(t.Dir, startedName), strconv.AppendInt(nil, took, 10), 0o600); err != nil {
		return nil, nil, err
	}
	s, err := openSite(t.Dir, t.Budget)
	if err != nil {
		return nil, nil, err
	}
	_ = os.Remove(filepath.Join(t.Dir, "socket"))
	l, err := net.Listen("unix", filepath.Join(t.Dir, "socket"))
	if err != nil {
		return nil, nil, err
	}
	return nil, nil, s.server.Serve(l)
}

// killToReply measures how long a client waits whose server was killed and is started
// again at once.
func killToReply(c config) error {
	ctx := context.Background()
	dir, remove, err := c.scratch("served")
	if err != nil {
		return err
	}
	defer remove()
	if err := fillSite(dir); err != nil {
		return err
	}
	do := c.task("serve", ours, dir)
	child, _, _, err := do.start()
	if err != nil {
		return err
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	client, err := session.Dial(ctx, session.DialOptions{Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(dir, "socket"))
	}})
	if err != nil {
		return err
	}
	defer client.Close()
	t := newTable(fmt.Sprintf("a server with %d MB is killed and started again, %d times", servedKeys*200/1_000_000, c.kills), "reply ms", "start ms", "beyond ms")
	for n := range c.kills {
		for i := range 200 {
			if _, err := client.Call(ctx, binary.BigEndian.AppendUint64(nil, uint64(n*200+i))); err != nil {
				return err
			}
		}
		_ = child.Process.Kill()
		_ = child.Wait()
		begun := time.Now()
		if child, _, _, err = do.start(); err != nil {
			return err
		}
		if _, err := client.Call(ctx, make([]byte, 64)); err != nil {
			return err
		}
		took := time.Since(begun)
		text, err := os.ReadFile(filepath.Join(dir, startedName))
		if err != nil {
			return err
		}
		own, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return err
		}
		ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
		t.add(ours, ms(took), ms(time.Duration(own)), ms(took-time.Duration(own)))
	}
	t.print()
	atMost("first reply beyond the process's own start, p50, ms", t.median(ours, "beyond ms"), 60)
	return nil
}

// fillSite makes a state of 100 MB.
func fillSite(dir string) error {
	s, err := openSite(dir, 2*time.Second)
	if err != nil {
		return err
	}
	const atOnce = 5000
	for k := uint64(0); k < servedKeys; k += atOnce {
		err := s.db.Update(context.Background(), func(tx *durable.Tx) error {
			for i := range uint64(atOnce) {
				s.state.Put(tx, k+i, make([]byte, 200))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := s.db.Checkpoint(context.Background()); err != nil {
		return err
	}
	return s.close()
}
