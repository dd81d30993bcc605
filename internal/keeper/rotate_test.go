package keeper

import (
	"os"
	"strings"
	"testing"

	"github.com/wakepoint/wakepoint/internal/api"
)

// TestOutputIsPutAside: an output beyond its limit goes to output.log.1 at a
// checkpoint, whole, and is empty then.
func TestOutputIsPutAside(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 1, LogMaxBytes: 100}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		path := r.w.dir + "/" + api.OutputName
		small, large := strings.Repeat("s", 100), strings.Repeat("l", 101)
		if err := os.WriteFile(path, []byte(small), 0o600); err != nil {
			t.Fatal(err)
		}
		r.ask(api.Request{Op: api.OpCheckpoint})
		if b, err := os.ReadFile(path); err != nil || string(b) != small {
			t.Errorf("an output within its limit: %d bytes, %v", len(b), err)
		}
		if err := os.WriteFile(path, []byte(large), 0o600); err != nil {
			t.Fatal(err)
		}
		r.ask(api.Request{Op: api.OpCheckpoint})
		aside, err := os.ReadFile(path + ".1")
		if err != nil || string(aside) != large {
			t.Errorf("put aside: %d bytes, %v", len(aside), err)
		}
		if b, err := os.ReadFile(path); err != nil || len(b) != 0 {
			t.Errorf("left: %d bytes, %v", len(b), err)
		}
	})
}
