package engine

import "testing"

// TestZooMemory: every kind of mapping, with its contents.
func TestZooMemory(t *testing.T) {
	zoo(t, "memory", named(`private copy_on_write shared_anonymous files short_file memfds deleted stacks advised wiped protections
		locked locked_future breaks holes moved guards guard_regions sparse names huge same_maps sysv replaced executed_memfd`))
}
