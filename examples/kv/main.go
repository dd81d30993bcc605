// Command kv is a key-value server over HTTP. What it has answered is there after
// it was killed, or the plug was pulled.
//
//	curl -X PUT -d hello localhost:8080/greeting
//	curl localhost:8080/greeting
//	curl -X DELETE localhost:8080/greeting
package main

import (
	"context"
	"flag"
	"io"
	"log"
	"net/http"

	"github.com/wakepoint/wakepoint/durable"
)

func main() {
	listen := flag.String("listen", "localhost:8080", "`address` to serve at")
	flag.Parse()

	values := durable.NewTable[string, []byte]("values")
	db, _, err := durable.Open(context.Background(), durable.Options{Dir: "kv.state"}, values)
	if err != nil {
		log.Fatal(err)
	}
	for method, transact := range map[string]func(context.Context, func(*durable.Tx) error) error{"GET": db.View, "PUT": db.Update, "DELETE": db.Update} {
		http.HandleFunc(method+" /{key...}", func(w http.ResponseWriter, r *http.Request) { // GET is HEAD, too
			key, value, found := r.PathValue("key"), []byte(nil), false
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
			if err == nil {
				err = transact(r.Context(), func(tx *durable.Tx) error {
					value, found = values.Get(tx, key)
					switch method {
					case http.MethodPut:
						values.Put(tx, key, body)
					case http.MethodDelete:
						values.Delete(tx, key)
					}
					return nil
				})
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
