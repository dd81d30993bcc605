// Command goserver keeps a ledger over HTTP, on Go's default listener, while
// its garbage collector never rests: trees that hold their own checksums are
// made, looked through and thrown away by several goroutines. A wrong one ends
// it. Usage: goserver PORT
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// rest pauses the noise beside the ledger.
type rest struct{ atomic.Bool }

func (r *rest) wait() {
	for r.Load() {
		time.Sleep(20 * time.Millisecond)
	}
}

// ledger is the state; every slot is a fresh allocation when it changes.
type ledger struct {
	mu    sync.Mutex // guards what follows
	n     uint64
	slots map[uint32]*uint32
}

func (l *ledger) step(want uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if want != l.n+1 {
		return false
	}
	l.n = want
	slot := uint32(want) * 2654435761 >> 20
	value := uint32(want)
	if old := l.slots[slot]; old != nil {
		value += *old * 31
	}
	l.slots[slot] = &value
	return true
}

func (l *ledger) state() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := uint32(2166136261)
	for i := range uint32(4096) {
		var v uint32
		if p := l.slots[i]; p != nil {
			v = *p
		}
		h = (h ^ v) * 16777619
	}
	return fmt.Sprintf("%d %d", l.n, h)
}

// node is a tree whose sum is known.
type node struct {
	left, right *node
	value, sum  uint64
	ballast     []byte
}

func grow(depth int, seed uint64) *node {
	n := &node{value: seed, sum: seed}
	if depth > 0 {
		n.left, n.right = grow(depth-1, seed*2), grow(depth-1, seed*2+1)
		n.sum += n.left.sum + n.right.sum
		n.ballast = make([]byte, 64)
	}
	return n
}

func (n *node) check() uint64 {
	sum := n.value
	if n.left != nil {
		sum += n.left.check() + n.right.check()
	}
	if sum != n.sum {
		log.Fatalf("bad: a tree sums to %d, not %d", sum, n.sum)
	}
	return sum
}

// churn keeps a few trees alive, checks the oldest and replaces it.
func churn(seed uint64, resting *rest) {
	var kept [8]*node
	for i := seed; ; i++ {
		resting.wait()
		if old := kept[i%8]; old != nil {
			old.check()
		}
		kept[i%8] = grow(9, i)
		time.Sleep(5 * time.Millisecond)
	}
}

func main() {
	log.SetFlags(0)
	log.SetOutput(os.Stdout)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	l := &ledger{slots: map[uint32]*uint32{}}
	resting := &rest{}
	for i := range uint64(3) {
		go churn(i*1000, resting)
	}
	go func() {
		for range time.Tick(20 * time.Millisecond) {
			resting.wait()
			runtime.GC()
		}
	}()
	http.HandleFunc("POST /rest", func(w http.ResponseWriter, r *http.Request) {
		resting.Store(true)
	})
	http.HandleFunc("POST /step", func(w http.ResponseWriter, r *http.Request) {
		resting.Store(false)
		want, err := strconv.ParseUint(r.FormValue("n"), 10, 64)
		if err != nil || !l.step(want) {
			http.Error(w, "not the next", http.StatusConflict)
			return
		}
		fmt.Fprintln(w, want)
	})
	http.HandleFunc("GET /state", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, l.state())
	})
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, nil))
}
