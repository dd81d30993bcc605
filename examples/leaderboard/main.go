// Command leaderboard counts points over HTTP: POST /players/ann?points=3, GET /top.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"

	"github.com/wakepoint/wakepoint/durable"
)

// place is a key that is lower with more points.
func place(points int64, name string) string { return fmt.Sprintf("%019d %s", 1<<60-points, name) }

func main() {
	listen := flag.String("listen", "localhost:8080", "`address` to serve at")
	flag.Parse()
	players, order := durable.NewTable[string, int64]("players"), durable.NewTable[string, string]("order")
	db, _, err := durable.Open(context.Background(), durable.Options{Dir: "leaderboard.state"}, players, order)
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("POST /players/{name}", func(w http.ResponseWriter, r *http.Request) {
		name, points, more := r.PathValue("name"), int64(0), int32(0)
		_, err := fmt.Sscan(r.FormValue("points"), &more)
		if err == nil {
			err = db.Update(r.Context(), func(tx *durable.Tx) error {
				points, _ = players.Get(tx, name)
				order.Delete(tx, place(points, name))
				points += int64(more)
				order.Put(tx, place(points, name), fmt.Sprintln(points, name))
				players.Put(tx, name, points)
				return nil
			})
		}
		answer(w, fmt.Sprintln(points), err)
	})
	http.HandleFunc("GET /top", func(w http.ResponseWriter, r *http.Request) {
		top := ""
		err := db.View(r.Context(), func(tx *durable.Tx) error {
			for _, line := range order.All(tx) {
				top += line
			}
			return nil
		})
		answer(w, top, err)
	})
	log.Fatal(http.ListenAndServe(*listen, nil))
}

func answer(w http.ResponseWriter, text string, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, text)
}
