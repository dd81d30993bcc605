package rehearsal

import (
	"testing"

	"github.com/wakepoint/wakepoint/internal/policy"
)

// What lies on disks needs no memory, and what is copied has a bound.
func TestAffords(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		memory, bytes, files int64
		want                 bool
	}{
		{8 * gib, 2 * gib, 0, true},
		{8 * gib, 4 * gib, 0, false},
		{8 * gib, 100 * gib, 98 * gib, true},
		{8 * gib, 100 * gib, 97 * gib, false},
		{2 * gib, gib, gib, true},
		{2 * gib, gib, gib / 2, false},
		{gib, 10 * gib, 10 * gib, false},
	} {
		if got := Affords(policy.Means{Memory: c.memory}, c.bytes, c.files); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
