package engine

import (
	"errors"
)

// errUnbuilt marks the parts of the surface that are still being written.
var errUnbuilt = errors.New("engine: not built yet")

// Check lists what stands in the way of saving a process and its descendants.
func Check(pid PID) ([]Obstacle, error) { return nil, errUnbuilt }

// Feature is one thing that this host's kernel can or cannot do.
type Feature struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Needed bool   `json:"needed"` // nothing works without it
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

// Probe tries the kernel features that the engine uses, by behaviour.
func Probe() []Feature { return nil }
