package session_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/durable/session"
)

// A counter over HTTP. What is on the way loses every other answer, and each request
// counts once.
func ExampleTransport() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(dir)
	tables, counts := session.NewTables(), durable.NewTable[string, int]("counts")
	db, _, err := durable.Open(ctx, durable.Options{Dir: filepath.Join(dir, "db")}, append(tables.All(), counts)...)
	if err != nil {
		panic(err)
	}
	defer db.Close()
	server, err := session.NewServer(db, session.Options{
		Tables: tables,
		Keys:   [][]byte{make([]byte, session.KeySize)}, // session.KeyFile makes a real one
		Login:  func(context.Context, session.Peer) (string, error) { return "", session.ErrDenied },
		Handle: func(*durable.Tx, *session.Request) ([]byte, error) { return nil, session.ErrDenied }, // only over HTTP
	})
	if err != nil {
		panic(err)
	}
	defer server.Close()
	site := httptest.NewTLSServer(server.Middleware(http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		r, _ := session.FromContext(h.Context())
		reply, err := server.Update(h.Context(), r, func(tx *durable.Tx) ([]byte, error) {
			n, _ := counts.Get(tx, r.Principal)
			counts.Put(tx, r.Principal, n+1)
			return strconv.AppendInt(nil, int64(n+1), 10), nil
		})
		if err != nil {
			session.HTTPError(w, err)
			return
		}
		_, _ = w.Write(reply)
	})))
	defer site.Close()

	credential, err := server.NewCredential(ctx, "ann") // who has logged in, for her program
	if err != nil {
		panic(err)
	}
	client := &http.Client{Transport: &session.Transport{Credential: credential, Base: &losing{base: site.Client().Transport}}}
	for range 3 {
		response, err := client.Post(site.URL, "text/plain", strings.NewReader("one more"))
		if err != nil {
			panic(err)
		}
		text, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		fmt.Println(response.StatusCode, string(text))
	}
	// Output:
	// 200 1
	// 200 2
	// 200 3
}

// losing is a proxy that says 502 for every other answer.
type losing struct {
	base http.RoundTripper
	n    int
}

func (l *losing) RoundTrip(h *http.Request) (*http.Response, error) {
	response, err := l.base.RoundTrip(h)
	if l.n++; err != nil || l.n%2 == 1 {
		return response, err
	}
	_ = response.Body.Close()
	return &http.Response{Status: "502 Bad Gateway", StatusCode: http.StatusBadGateway, Body: http.NoBody}, nil
}
