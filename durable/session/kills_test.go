package session

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/wakepoint/wakepoint/durable"
)

var (
	killsN    = flag.Int("kills.n", 10, "servers that are killed; half as many clients are, and a tenth as many connections at least are cut within a frame")
	killsSeed = flag.Uint64("kills.seed", 1, "what draws when")
)

const (
	childServer = "WAKEPOINT_TEST_SESSION_SERVER" // a directory
	childClient = "WAKEPOINT_TEST_SESSION_CLIENT" // a directory, the first client's number and how many there are

	clientsHere  = 16 // in the test itself; their connections are cut
	clientsThere = 4  // in each process that is killed
	processes    = 4
	callersMost  = 4
	counters     = 8 // at a time
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childServer); dir != "" {
		fmt.Fprintln(os.Stderr, serveUntilKilled(dir))
		os.Exit(1)
	}
	if where := os.Getenv(childClient); where != "" {
		fmt.Fprintln(os.Stderr, askUntilKilled(where))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// tally is what the server to be killed keeps: counters, and how often each request
// was done, by its name.
type tally struct {
	counts *durable.Table[uint64, uint64]
	done   *durable.Table[string, uint64]
	tables *Tables
}

func newTally() *tally {
	return &tally{durable.NewTable[uint64, uint64]("counts"), durable.NewTable[string, uint64]("done"), NewTables()}
}

func (t *tally) open(dir string) (*durable.DB, error) {
	db, _, err := durable.Open(context.Background(), durable.Options{Dir: filepath.Join(dir, "db")}, append(t.tables.All(), t.counts, t.done)...)
	return db, err
}

// A request is the number of a counter and a name that no other one has. It adds one
// to the counter; the reply is what it had before.
func (t *tally) handle(s **Server) func(tx *durable.Tx, r *Request) ([]byte, error) {
	return func(tx *durable.Tx, r *Request) ([]byte, error) {
		which, name := binary.BigEndian.Uint64(r.Body), string(r.Body[8:])
		n, _ := t.counts.Get(tx, which)
		t.counts.Put(tx, which, n+1)
		times, _ := t.done.Get(tx, name)
		t.done.Put(tx, name, times+1)
		return number(n), (*s).Send(tx, r.Session, []byte(name))
	}
}

func serveUntilKilled(dir string) error {
	t := newTally()
	db, err := t.open(dir)
	if err != nil {
		return err
	}
	log, err := journal(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	var s *Server
	s, err = NewServer(db, Options{Tables: t.tables, Keys: [][]byte{make([]byte, KeySize)}, Handle: t.handle(&s), Logger: log,
		Login: func(_ context.Context, p Peer) (string, error) {
			return string(p.Credentials), note(filepath.Join(dir, "logins"), string(p.Credentials))
		}})
	if err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(dir, "socket")) // of the one that was killed
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return s.Serve(l)
}

// note adds a line to a file, with the time.
func note(name, line string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, time.Now().UnixNano(), line)
	return errors.Join(err, f.Close())
}

// ask lets a client ask again and again until the context ends, from some goroutines
// at once, and keeps a ledger: what it asked, what the replies were, and what was
// delivered.
func ask(ctx context.Context, who int, dir string, begun *sync.WaitGroup, o DialOptions) error {
	ledger := filepath.Join(dir, fmt.Sprint("ledger ", who))
	o.Credentials = []byte(fmt.Sprint(who))
	o.Recovered = func(body, reply []byte, err error) {
		if err == nil {
			err = note(ledger, fmt.Sprintf("end %s %d", body[8:], binary.BigEndian.Uint64(reply)))
		}
		if err != nil {
			panic(err)
		}
	}
	c, err := Dial(ctx, o)
	begun.Done()
	if err != nil {
		return err
	}
	defer c.Close()
	callers := 1 + who%callersMost
	over := make(chan error, callers+1)
	go func() {
		for d, err := range c.Receive(ctx) {
			if err == nil {
				err = note(ledger, fmt.Sprintf("got %d %s", d.Number, d.Body))
			}
			if err != nil {
				over <- err
				return
			}
		}
	}()
	for n := range callers {
		go func() { over <- keepAsking(ctx, c, ledger, fmt.Sprintf("%d/%d", who, n)) }()
	}
	for range callers + 1 {
		if err := <-over; !errors.Is(err, ctx.Err()) {
			return err
		}
	}
	return nil
}

// keepAsking asks again and again until the context ends. Requests have names that begin
// with the caller's, of which there is no other one at a time.
func keepAsking(ctx context.Context, c *Client, ledger, caller string) error {
	for n := 0; ctx.Err() == nil; n++ {
		which := uint64(time.Now().Unix())/10*counters + rand.Uint64N(counters) // histories of a counter are to be short
		name := fmt.Sprintf("%s/%d/%d", caller, time.Now().UnixNano(), n)
		if err := note(ledger, fmt.Sprintf("begin %s %d", name, which)); err != nil {
			return err
		}
		reply, err := c.Call(context.Background(), append(number(which), name...))
		if err != nil {
			return err
		}
		if err := note(ledger, fmt.Sprintf("end %s %d", name, binary.BigEndian.Uint64(reply))); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func dialer(dir string) func(ctx context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(dir, "socket"))
	}
}

func askUntilKilled(where string) error {
	dir, first, _ := strings.Cut(where, ":")
	who, err := strconv.Atoi(first)
	if err != nil {
		return err
	}
	over := make(chan error, clientsThere)
	var begun sync.WaitGroup
	begun.Add(clientsThere)
	for n := range clientsThere {
		go func() {
			over <- ask(context.Background(), who+n, dir, &begun, DialOptions{Dial: dialer(dir), Dir: filepath.Join(dir, fmt.Sprint("client ", who+n))})
		}()
	}
	begun.Wait()
	fmt.Println("ready")
	return <-over
}

// process is a child that is killed and started again.
type process struct {
	t    *testing.T
	env  string
	cmd  *exec.Cmd
	rand *rand.Rand
}

// start starts a child, and waits until it is ready.
func (p *process) start() {
	program, err := os.Executable()
	must(p.t, err)
	p.cmd = exec.Command(program)
	p.cmd.Env = append(os.Environ(), p.env)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	must(p.t, err)
	must(p.t, p.cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		p.t.Errorf("%s: %q, %v", p.env, line, err)
	}
}

// kill kills a child, which must have lived until then.
func (p *process) kill() {
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Error(err)
	}
	if err := p.cmd.Wait(); p.cmd.ProcessState.ExitCode() >= 0 {
		p.t.Errorf("%s has ended by itself: %v", p.env, err)
	}
}

// killAgain kills a child again and again.
func (p *process) killAgain(times int, most time.Duration) {
	for range times {
		time.Sleep(time.Duration(p.rand.Int64N(int64(most))))
		p.kill()
		p.start()
	}
}

// TestKills kills a server, clients that have a directory, and connections of others,
// at any instant, while all ask and are owed things. Nothing is lost, doubled, or asked
// for again with a login, and all replies could be those of one request after the other.
func TestKills(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(*killsSeed, 9))
	server := &process{t: t, env: childServer + "=" + dir, rand: rand.New(rand.NewPCG(r.Uint64(), 0))}
	server.start()
	ctx, cancel := context.WithCancel(context.Background())
	var here, kills, begun sync.WaitGroup
	begun.Add(clientsHere)
	k := &cutter{most: 5000, rand: rand.New(rand.NewPCG(r.Uint64(), 1))}
	for who := range clientsHere {
		here.Go(func() {
			if err := ask(ctx, who, dir, &begun, DialOptions{Dial: k.dial(dialer(dir))}); err != nil {
				t.Error(err)
			}
		})
	}
	var clients []*process
	for n := range processes {
		p := &process{t: t, env: fmt.Sprintf("%s=%s:%d", childClient, dir, clientsHere+n*clientsThere), rand: rand.New(rand.NewPCG(*killsSeed, uint64(n)))}
		p.start()
		clients = append(clients, p)
	}
	begun.Wait() // whoever is killed before it has a session needs another login
	for _, p := range clients {
		kills.Go(func() { p.killAgain((*killsN/2+processes-1)/processes, 300*time.Millisecond) })
	}
	server.killAgain(*killsN, 100*time.Millisecond)
	kills.Wait()
	time.Sleep(100 * time.Millisecond)
	cancel()
	here.Wait()
	for _, p := range clients {
		p.kill()
	}
	server.kill()
	l := readLedgers(t, dir)
	l.check(dir)
	if k.inside() < *killsN/10 {
		t.Errorf("only %d connections were cut within a frame", k.inside())
	}
	t.Logf("seed %d: %d of %d servers and %d clients killed, %d requests of %d clients, up to %d at once of each, 0 lost, 0 doubled, 0 logins repeated",
		*killsSeed, *killsN, *killsN, (*killsN/2+processes-1)/processes*processes, len(l.ends), clientsHere+processes*clientsThere, callersMost)
	t.Logf("%d connections cut within a frame: %d within one of the client's, %d within one of the server's; %d noticed by a server that lived on",
		k.inside(), k.sending, k.receiving, brokenOff(t, filepath.Join(dir, "log")))
	t.Logf("%d connections cut between frames, %d ended otherwise, by kills for the most part", k.between, k.made-k.inside()-k.between)
}

// ledgers are what all clients know.
type ledgers struct {
	t      *testing.T
	begins map[string]event // by name
	ends   map[string]event
	got    map[string][]string // what was delivered, by client
}

type event struct {
	at   int64
	who  int
	what uint64
}

func readLedgers(t *testing.T, dir string) *ledgers {
	l := &ledgers{t: t, begins: map[string]event{}, ends: map[string]event{}, got: map[string][]string{}}
	for who := range clientsHere + processes*clientsThere {
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("ledger ", who)))
		must(t, err)
		for line := range strings.Lines(string(b)) {
			var at int64
			var verb, a, c string
			if _, err := fmt.Sscan(line, &at, &verb, &a, &c); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			switch verb {
			case "begin":
				n, err := strconv.ParseUint(c, 10, 64)
				must(t, err)
				l.begins[a] = event{at, who, n}
			case "end":
				n, err := strconv.ParseUint(c, 10, 64)
				must(t, err)
				if old, again := l.ends[a]; again && old.what != n {
					t.Errorf("%s: first %d, then %d", a, old.what, n)
				}
				if _, again := l.ends[a]; !again {
					l.ends[a] = event{at, who, n}
				}
			case "got":
				l.got[fmt.Sprint(who)] = append(l.got[fmt.Sprint(who)], a+" "+c)
			}
		}
	}
	return l
}

// check compares what clients know with what the server has, and with what can be.
func (l *ledgers) check(dir string) {
	t := l.t
	tally := newTally()
	db, err := tally.open(dir)
	must(t, err)
	defer db.Close()
	done := map[string]uint64{}
	must(t, db.View(context.Background(), func(tx *durable.Tx) error {
		for name, times := range tally.done.All(tx) {
			if done[name] = times; times != 1 {
				t.Errorf("%s was done %d times", name, times)
			}
		}
		return nil
	}))
	for name := range l.ends {
		if done[name] == 0 {
			t.Errorf("%s is lost", name)
		}
	}
	for name := range done {
		if _, ok := l.begins[name]; !ok {
			t.Errorf("%s was done, and nobody asked for it", name)
		}
	}
	logins, err := os.ReadFile(filepath.Join(dir, "logins"))
	must(t, err)
	if n := strings.Count(string(logins), "\n"); n != clientsHere+processes*clientsThere {
		t.Errorf("%d logins", n)
	}
	l.checkDeliveries(done)
	l.checkHistory(done)
}

// checkDeliveries: they come in order, each once; only one that a killed client had
// just taken may come again.
func (l *ledgers) checkDeliveries(done map[string]uint64) {
	for who, list := range l.got {
		last, lastName := uint64(0), ""
		for _, line := range list {
			var n uint64
			var name string
			if _, err := fmt.Sscan(line, &n, &name); err != nil {
				l.t.Fatal(err)
			}
			again := n == last && name == lastName
			if here, _ := strconv.Atoi(who); n != last+1 && !(again && here >= clientsHere) {
				l.t.Errorf("client %s: delivery %d behind %d", who, n, last)
			}
			if last, lastName = n, name; done[name] != 1 {
				l.t.Errorf("client %s: %s was delivered, and not done", who, name)
			}
		}
	}
}

// checkHistory: the replies could be those of one request after the other.
func (l *ledgers) checkHistory(done map[string]uint64) {
	var ops []porcupine.Operation
	type in struct{ counter uint64 }
	latest := int64(0)
	for name, b := range l.begins {
		latest = max(latest, b.at, l.ends[name].at)
	}
	for name, b := range l.begins {
		end, ok := l.ends[name]
		switch {
		case ok:
			ops = append(ops, porcupine.Operation{ClientId: b.who, Input: in{b.what}, Call: b.at, Output: end.what, Return: end.at})
		case done[name] == 1: // nobody heard of it
			ops = append(ops, porcupine.Operation{ClientId: b.who, Input: in{b.what}, Call: b.at, Output: ^uint64(0), Return: latest + 1})
		}
	}
	model := porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			parts := map[uint64][]porcupine.Operation{}
			for _, op := range history {
				c := op.Input.(in).counter
				parts[c] = append(parts[c], op)
			}
			return slices.Collect(maps.Values(parts))
		},
		Init: func() any { return uint64(0) },
		Step: func(state, _, output any) (bool, any) {
			n := state.(uint64)
			return output.(uint64) == n || output.(uint64) == ^uint64(0), n + 1
		},
	}
	if result := porcupine.CheckOperationsTimeout(model, ops, time.Minute); result != porcupine.Ok {
		l.t.Errorf("%d requests are not linearizable: %s", len(ops), result)
	}
}
