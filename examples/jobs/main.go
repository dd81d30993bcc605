// Command jobs is a job queue over HTTP: /add, /take (again, if it is not done in time) and /done.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/wakepoint/wakepoint/durable"
)

type job struct {
	ID    int64
	Work  string
	Until time.Time // somebody is at it
}

func main() {
	listen, lease := flag.String("listen", "localhost:8080", "`address` to serve at"), flag.Duration("lease", time.Minute, "`time` for doing a job")
	flag.Parse()
	jobs, next := durable.NewTable[int64, job]("jobs"), durable.NewTable[string, int64]("next")
	db, _, err := durable.Open(context.Background(), durable.Options{Dir: "jobs.state"}, jobs, next)
	if err != nil {
		log.Fatal(err)
	}
	handle := func(pattern string, do func(tx *durable.Tx, j *job)) {
		http.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			var j job
			if err := json.NewDecoder(r.Body).Decode(&j); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
			} else if err := db.Update(r.Context(), func(tx *durable.Tx) error { do(tx, &j); return nil }); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			} else if j.ID == 0 || json.NewEncoder(w).Encode(j) != nil {
				w.WriteHeader(http.StatusNoContent)
			}
		})
	}
	handle("POST /add", func(tx *durable.Tx, j *job) {
		last, _ := next.Get(tx, "id")
		j.ID = last + 1
		next.Put(tx, "id", j.ID)
		jobs.Put(tx, j.ID, *j)
	})
	handle("POST /take", func(tx *durable.Tx, j *job) {
		*j = job{}
		for id, free := range jobs.All(tx) {
			if time.Now().After(free.Until) {
				*j = job{id, free.Work, time.Now().Add(*lease)}
				jobs.Put(tx, id, *j)
				return
			}
		}
	})
	handle("POST /done", func(tx *durable.Tx, j *job) { jobs.Delete(tx, j.ID) })
	log.Fatal(http.ListenAndServe(*listen, nil))
}
