package keeper

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"

	"github.com/wakepoint/wakepoint/internal/api"
)

// A keeper that has let go of its workload, and whose socket is not closed
// yet, is none: what it is asked is for the next one, but to stop, which it has.
func TestLeft(t *testing.T) {
	k := newKeeper(nil, nil, Site{}, slog.New(slog.DiscardHandler))
	close(k.released)
	s := &server{k: k}
	for op, want := range map[string]error{api.OpRestore: api.ErrNoKeeper, api.OpCheckpoint: api.ErrNoKeeper, api.OpStop: nil, api.OpRemove: nil} {
		dir := t.TempDir()
		l, err := net.Listen("unix", dir+"/keeper.sock")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			var q api.Request
			if api.ReadLine(c, &q) == nil {
				_ = api.WriteLine(c, s.enqueue(c, q))
			}
		}()
		_, err = api.Call(context.Background(), dir, api.Request{Op: op}, nil)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, not %v", op, err, want)
		}
		l.Close()
	}
}
