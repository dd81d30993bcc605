package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/wakepoint/wakepoint/internal/screen"
)

// relay is a terminal with one hub after the other.
type relay struct {
	t      *testing.T
	master *os.File
	mu     sync.Mutex // guards hub
	hub    *Hub
}

func (r *relay) connect() net.Conn {
	near, far := socketPair(r.t)
	r.mu.Lock()
	defer r.mu.Unlock()
	go r.hub.Serve(far)
	return near
}

func (r *relay) exchange() {
	r.t.Helper()
	kept, err := r.hub.Leave()
	if err != nil || kept == nil {
		r.t.Fatal(err)
	}
	next := newHub(r.t, r.master, Options{Screen: kept})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hub = next
}

// person is attached by a pipe for a keyboard and one for a screen.
type person struct {
	typed *os.File
	drawn chan *screen.Screen // gets the screen when all is over
	left  chan error
}

func (r *relay) person() *person {
	r.t.Helper()
	p := &person{drawn: make(chan *screen.Screen, 1), left: make(chan error, 1)}
	in, typed, err := os.Pipe()
	if err != nil {
		r.t.Fatal(err)
	}
	shown, out, err := os.Pipe()
	if err != nil {
		r.t.Fatal(err)
	}
	p.typed = typed
	go func() {
		s := screen.New(screen.Size{Rows: 10, Cols: 40})
		io.Copy(s, shown)
		shown.Close()
		p.drawn <- s
	}()
	go func() {
		again := func(context.Context) (net.Conn, error) { return r.connect(), nil }
		_, err := Attach(r.connect(), in, out, AttachOptions{Again: again})
		out.Close()
		in.Close()
		p.left <- err
	}()
	return p
}

// TestLeave: one hub after the other takes the terminal over while the program
// prints and a person types. Nobody misses a thing, and nothing comes twice.
func TestLeave(t *testing.T) {
	master, slave := openPTY(t)
	setSize(t, master, 10, 40)
	if _, err := term.MakeRaw(int(slave.Fd())); err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, master: master, hub: newHub(t, master, Options{})}
	p := r.person()
	defer p.typed.Close()
	const hubs, lines, keys = 20, 4000, 2000
	var program sync.WaitGroup
	program.Go(func() {
		for i := range lines {
			fmt.Fprintf(slave, "\r\nline %d", i)
		}
	})
	program.Go(func() {
		var want strings.Builder
		for i := range keys {
			fmt.Fprintf(&want, "%04d", i)
		}
		got := make([]byte, want.Len())
		if _, err := io.ReadFull(slave, got); err != nil || string(got) != want.String() {
			t.Errorf("the program read %q, %v", got, err)
		}
	})
	program.Go(func() {
		for i := range keys {
			fmt.Fprintf(p.typed, "%04d", i)
			time.Sleep(50 * time.Microsecond)
		}
	})
	for range hubs {
		time.Sleep(5 * time.Millisecond)
		r.exchange()
	}
	program.Wait()
	if kept, err := screen.Decode(r.hub.Screen()); err != nil || kept.String() != lastLines(lines, 10) {
		t.Errorf("the hub has\n%s", kept)
	}
	r.hub.Close()
	if err := <-p.left; err != nil {
		t.Error(err)
	}
	if s := <-p.drawn; s.String() != lastLines(lines, 10) {
		t.Errorf("the person sees\n%s", s)
	}
}

func lastLines(of, n int) string {
	var b strings.Builder
	for i := of - n; i < of; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// TestAgain: a hub that dies, and none comes, or the person leaves before.
func TestAgain(t *testing.T) {
	for name, again := range map[string]func(ctx context.Context) (net.Conn, error){
		"none comes": func(context.Context) (net.Conn, error) { return nil, errors.New("none") },
		"leaves": func(ctx context.Context) (net.Conn, error) {
			unix.Kill(os.Getpid(), unix.SIGTERM)
			<-ctx.Done()
			return nil, ctx.Err()
		},
	} {
		master, _ := openPTY(t)
		h := newHub(t, master, Options{})
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		near, far := socketPair(t)
		go func() {
			go h.Serve(far)
			for len(h.parted()) == 0 {
				time.Sleep(time.Millisecond)
			}
			far.Close()
		}()
		o, err := Attach(near, null, null, AttachOptions{Again: again})
		if left := name == "leaves"; o.Detached != left || errors.Is(err, ErrLost) == left {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}
}
