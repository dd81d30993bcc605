package keeper

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/store"
)

// serveWorld runs a whole keeper, socket and all, on a world.
func serveWorld(t *testing.T, dir string) (w *world, done chan error) {
	t.Helper()
	w = newWorld(dir)
	p, _, err := preparePolicy(api.Policy{EverySeconds: 0.02}, api.Spec{Argv: []string{"prog"}, Dir: "/"})
	err = errors.Join(err, putRecord(w, recordSpec, api.Spec{Name: "web", Argv: []string{"prog"}, Dir: "/"}),
		putRecord(w, recordPolicy, p), putRecord(w, recordRun, runRecord{Wanted: true, State: api.Starting}))
	if err != nil {
		t.Fatal(err)
	}
	pr, pw := io.Pipe()
	done = make(chan error, 1)
	o := Options{Name: "web", Action: ActLaunch, Report: pw, Log: slog.New(slog.DiscardHandler)}
	go func() { done <- runKeeper(context.Background(), o, w, w) }()
	if _, err := io.ReadAll(pr); err != nil {
		t.Fatal(err)
	}
	return w, done
}

func TestServer(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir() + "/" + strings.Repeat("quite/long/", 12)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w, done := serveWorld(t, dir)
	ctx := context.Background()
	call := func(q api.Request) (api.Reply, error) { return api.Call(ctx, dir, q, nil) }

	st, err := os.Stat(dir + "/" + api.SocketName)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", st, err)
	}
	// The lock is held: no second keeper.
	if err := runKeeper(ctx, Options{Name: "web", Action: ActRecover}, w, w); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a second keeper: %v", err)
	}
	waiting := make(chan api.Reply, 1)
	go func() {
		r, _ := call(api.Request{Op: api.OpWait})
		waiting <- r
	}()
	manyAtOnce(t, call)
	if _, err := call(api.Request{Op: "dance"}); api.AsError(err).Code != api.CodeUsage {
		t.Errorf("unknown request: %v", err)
	}
	if _, err := call(api.Request{Op: api.OpAttach}); err == nil {
		t.Error("attached to what has no terminal")
	}
	bad := 0.0
	if _, err := call(api.Request{Op: api.OpSet, Change: &api.PolicyChange{EverySeconds: &bad}}); api.AsError(err).Code != api.CodeUsage {
		t.Errorf("interval 0: %v", err)
	}
	r, err := call(api.Request{Op: api.OpStop})
	if err != nil || r.Status.State != api.Stopped {
		t.Errorf("stop: %+v %v", r.Status, err)
	}
	// Whoever hears of the end may act at once.
	l, err := w.Lock()
	if err != nil {
		t.Errorf("lock after stop: %v", err)
	} else {
		l.Close()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if r := <-waiting; r.Status == nil || r.Status.State != api.Stopped {
		t.Errorf("wait: %+v", r.Status)
	}
	if _, err := call(api.Request{Op: api.OpStatus}); !errors.Is(err, api.ErrNoKeeper) {
		t.Errorf("after the end: %v", err)
	}
}

// manyAtOnce asks twenty things twice over, all at the same time.
func manyAtOnce(t *testing.T, call func(api.Request) (api.Reply, error)) {
	t.Helper()
	var wg sync.WaitGroup
	seen := make(chan string, 100)
	for i := range 20 {
		wg.Add(2)
		go func() {
			defer wg.Done()
			r, err := call(api.Request{Op: api.OpCheckpoint})
			if err != nil {
				t.Error(err)
				return
			}
			seen <- r.Generation.Generation
		}()
		go func() {
			defer wg.Done()
			var err error
			switch i % 4 {
			case 0:
				_, err = call(api.Request{Op: api.OpSignal, Signal: 10})
			case 1:
				every := 0.05
				_, err = call(api.Request{Op: api.OpSet, Change: &api.PolicyChange{EverySeconds: &every}})
			default:
				_, err = call(api.Request{Op: api.OpStatus})
			}
			if err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	close(seen)
	unique := map[string]bool{}
	for g := range seen {
		unique[g] = true
	}
	if len(unique) != 20 {
		t.Errorf("%d different generations", len(unique))
	}
}

// A caller that says nothing, or goes away, disturbs nobody.
func TestRudeCallers(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	_, done := serveWorld(t, dir)
	ctx := context.Background()
	silent, err := api.Dial(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, text := range []string{"", "x", "{}\n", strings.Repeat("y", 2<<20), `{"version":99,"op":"status"}` + "\n", `{"version":1,"op":"wait"}` + "\n"} {
		c, err := api.Dial(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(c, text)
		c.Close()
	}
	if _, err := api.Call(ctx, dir, api.Request{Op: api.OpRemove}, nil); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
