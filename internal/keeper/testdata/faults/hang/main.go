// Command hang keeps accounts behind a lock and a clock of its own. /tick?us=N
// moves the clock and settles what is due; /spoil?us=N leaves a transfer from an
// account to itself, which waits for a lock that it holds when it is settled:
// the server goes on to listen and never moves again. /health says whether the
// lock can be had. Usage: hang PORT
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"sync"
)

type account struct {
	mu      sync.Mutex // guards balance
	balance int
}

type transfer struct {
	at       int64
	from, to *account
}

type bank struct {
	mu        sync.Mutex // guards what follows; taken before an account's
	clock     int64
	transfers []transfer
}

func (b *bank) tick(us int64) {
	b.clock += us
	for i := range b.transfers {
		t := &b.transfers[i]
		if t.at > b.clock {
			continue
		}
		t.from.mu.Lock()
		t.to.mu.Lock()
		t.from.balance--
		t.to.balance++
		t.to.mu.Unlock()
		t.from.mu.Unlock()
		t.at = b.clock + 1e6
	}
}

func main() {
	b := &bank{transfers: []transfer{{1e6, &account{}, &account{}}}}
	http.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if !b.mu.TryLock() {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		b.mu.Unlock()
	})
	serve := func(f func(us int64)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			us, err := strconv.ParseInt(r.FormValue("us"), 10, 64)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			f(us)
			fmt.Fprintln(w, b.clock)
		}
	}
	http.HandleFunc("/tick", serve(b.tick))
	http.HandleFunc("/spoil", serve(func(us int64) {
		a := &account{}
		b.transfers = append(b.transfers, transfer{b.clock + us, a, a})
	}))
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
