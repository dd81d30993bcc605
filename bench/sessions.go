package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
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

// A onceWay is a way to do requests of so many sessions: a row.
type onceWay struct {
	row    string
	atOnce int
	do     func(s *site, sessions []uint64) (measured func() error, err error)
}

// onceWays are the ways, of which the first one of a kind is without sessions.
func onceWays() []onceWay {
	together := func(once bool) func(*site, []uint64) (func() error, error) {
		return func(s *site, sessions []uint64) (func() error, error) {
			return func() error { return s.together(once, sessions) }, nil
		}
	}
	return []onceWay{
		{"64 in a transaction", 64, together(false)},
		{"64 in a transaction, Do", 64, together(true)},
		{"each in its own", 32, alone(plainly)},
		{"each in its own, hash and Do", 32, alone(asConn)},
		{"each in its own, Request and Do", 32, alone(byRequest)},
	}
}

// onceCost measures what it costs that a request is done once, beside one that is only
// done: processor time, and bytes of the log.
func onceCost(c config) error {
	t := newTable(fmt.Sprintf("once: %d requests of 64 bytes, median of %d rounds", onceRequests, c.rounds), "cpu us", "log bytes")
	ways := onceWays()
	for _, w := range ways {
		t.rows = append(t.rows, w.row)
	}
	for round := range c.rounds {
		for i := range ways {
			w := ways[(i+round)%len(ways)]
			dir, remove, err := c.scratch("once")
			if err != nil {
				return err
			}
			cpu, log, err := c.onceRound(dir, w)
			if remove(); err != nil {
				return err
			}
			t.add(w.row, cpu, log)
		}
	}
	t.print()
	more := func(what string, n, than int, column string, goal float64) {
		atMost(what, t.median(ways[n].row, column)-t.median(ways[than].row, column), goal)
	}
	more("exactly once, 64 in a transaction: CPU us a request", 1, 0, "cpu us", 1)
	more("exactly once as connections do it, 32 at once: CPU us", 3, 2, "cpu us", 1)
	more("exactly once by Request and Do, 32 at once: CPU us", 4, 2, "cpu us", 1)
	more("log of exactly once, bytes a request", 1, 0, "log bytes", 64)
	return nil
}

func (c config) onceRound(dir string, w onceWay) (cpu, log float64, err error) {
	s, err := openSite(dir, time.Hour) // no checkpoint: the log has all
	if err != nil {
		return 0, 0, err
	}
	sessions := make([]uint64, w.atOnce)
	for i := range sessions {
		credential, err := s.server.NewCredential(context.Background(), "somebody")
		if err != nil {
			return 0, 0, err
		}
		sessions[i] = credential.Session
	}
	do, err := w.do(s, sessions)
	if err != nil {
		return 0, 0, err
	}
	runtime.GC()
	stop, err := c.startProfile(ours, "once "+w.row)
	if err != nil {
		return 0, 0, err
	}
	before, err := worked(nil)
	if err == nil {
		err = do()
	}
	stop()
	if err != nil {
		return 0, 0, err
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

func bodyOf(n uint64) []byte {
	body := make([]byte, 64)
	binary.BigEndian.PutUint64(body, n)
	return body
}

// together does all requests, one of each session in a transaction.
func (s *site) together(once bool, sessions []uint64) error {
	for n := range uint64(onceRequests / len(sessions)) {
		if err := s.requests(context.Background(), once, sessions, n+1); err != nil {
			return err
		}
	}
	return nil
}

// requests does a request of each session, once or not, in one transaction: what is
// measured is not the disk, nor who waits for whom.
func (s *site) requests(ctx context.Context, once bool, sessions []uint64, seq uint64) error {
	list := make([]*session.Request, len(sessions))
	for i, id := range sessions {
		var err error
		if list[i], err = s.server.Request(ctx, id, seq, seq, bodyOf(seq*uint64(len(sessions))+uint64(i))); err != nil { // a client has the reply before it asks anew
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

// alone lets each session do its requests one after the other, beside the others, each
// in a transaction of its own. The requests are there beforehand: a connection knows
// its session.
func alone(do func(s *site, r *session.Request) error) func(*site, []uint64) (func() error, error) {
	return func(s *site, sessions []uint64) (func() error, error) {
		each := onceRequests / len(sessions)
		lists := make([][]*session.Request, len(sessions))
		for i, id := range sessions {
			for n := range uint64(each) {
				r, err := s.server.Request(context.Background(), id, n+1, n+1, bodyOf(uint64(i*each)+n))
				if err != nil {
					return nil, err
				}
				lists[i] = append(lists[i], r)
			}
		}
		return func() error {
			var wg sync.WaitGroup
			errs := make([]error, len(sessions))
			for i, list := range lists {
				wg.Go(func() {
					for _, r := range list {
						if errs[i] = do(s, r); errs[i] != nil {
							return
						}
					}
				})
			}
			wg.Wait()
			return errors.Join(errs...)
		}, nil
	}
}

// plainly does what a request asks for, without sessions.
func plainly(s *site, r *session.Request) error {
	return s.db.Update(context.Background(), func(tx *durable.Tx) error {
		_, err := s.handle(tx, r)
		return err
	})
}

// asConn does what a connection does: it hashes the body, and does the request once.
func asConn(s *site, r *session.Request) error {
	if sum := sha256.Sum256(r.Body); sum == ([sha256.Size]byte{}) {
		return errors.New("no hash")
	}
	return s.db.Update(context.Background(), func(tx *durable.Tx) error {
		_, err := s.server.Do(tx, r, func() ([]byte, error) { return s.handle(tx, r) })
		return err
	})
}

// byRequest does what a program does that has requests from elsewhere: it looks the
// session up first.
func byRequest(s *site, r *session.Request) error {
	r, err := s.server.Request(context.Background(), r.Session, r.Seq, r.Seq, r.Body)
	if err != nil {
		return err
	}
	return s.db.Update(context.Background(), func(tx *durable.Tx) error {
		_, err := s.server.Do(tx, r, func() ([]byte, error) { return s.handle(tx, r) })
		return err
	})
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
	l, err := listen(t.Dir)
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
		return d.DialContext(ctx, "unix", socketOf(dir))
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
