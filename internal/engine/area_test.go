package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/memory"
)

// TestUnreadable: guard pages that the kernel does not show are a refusal with
// a name; any other error stays what it is.
func TestUnreadable(t *testing.T) {
	a := memory.Area{Range: memory.Range{Start: 0x7f0000000000, End: 0x7f0000002000}}
	var refused *RefusedError
	eio := fmt.Errorf("read: %w", &fs.PathError{Op: "read", Path: "/proc/7/mem", Err: unix.EIO})
	if err := unreadable(7, a, eio); !errors.As(err, &refused) || refused.Obstacles[0].Hint == "" {
		t.Errorf("EIO: %v", err)
	}
	full := fmt.Errorf("store: %w", unix.ENOSPC)
	if err := unreadable(7, a, full); err != full {
		t.Errorf("ENOSPC: %v", err)
	}
}
