// Command memory is the server kv as it would be without package durable: what it
// was told is gone when it ends.
package main

import (
	"flag"
	"io"
	"log"
	"net/http"
	"sync"
)

func main() {
	listen := flag.String("listen", "localhost:8080", "`address` to serve at")
	flag.Parse()

	values := map[string][]byte{}
	var mu sync.RWMutex
	http.HandleFunc("/{key...}", func(w http.ResponseWriter, r *http.Request) {
		key, value, found := r.PathValue("key"), []byte(nil), false
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err == nil {
			lock := mu.RLocker()
			if r.Method != http.MethodGet {
				lock = &mu
			}
			lock.Lock()
			value, found = values[key]
			switch r.Method {
			case http.MethodPut:
				values[key] = body
			case http.MethodDelete:
				delete(values, key)
			}
			lock.Unlock()
		}
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case r.Method != http.MethodGet:
			w.WriteHeader(http.StatusNoContent)
		case !found:
			http.NotFound(w, r)
		default:
			w.Write(value)
		}
	})
	log.Fatal(http.ListenAndServe(*listen, nil))
}
