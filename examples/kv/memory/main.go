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
	for method, lock := range map[string]sync.Locker{"GET": mu.RLocker(), "PUT": &mu, "DELETE": &mu} {
		http.HandleFunc(method+" /{key...}", func(w http.ResponseWriter, r *http.Request) { // GET is HEAD, too
			key, value, found := r.PathValue("key"), []byte(nil), false
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
			if err == nil {
				lock.Lock()
				value, found = values[key]
				switch method {
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
			case method != http.MethodGet:
				w.WriteHeader(http.StatusNoContent)
			case !found:
				http.NotFound(w, r)
			default:
				w.Write(value)
			}
		})
	}
	log.Fatal(http.ListenAndServe(*listen, nil))
}
