package engine

import (
	"strings"
	"testing"
)

// named makes animals that have nothing but a name.
func named(names string) []animal {
	var list []animal
	for _, n := range strings.Fields(names) {
		list = append(list, animal{name: n})
	}
	return list
}

// TestZooFDs: descriptors of every kind but sockets.
func TestZooFDs(t *testing.T) {
	zoo(t, "fds", named(`regular shared_offset directory directory_end pipes packet_pipe half_pipe pipeline fifo fifo_processes
		eventfds signalfds inotifies inotify_queue pidfds pidfd_zombie pidfd_dead devices path_only locks numbers deleted
		renamed proc_files proc_tasks`))
	zoo(t, "fds", []animal{{name: "shared_table", refused: "CLONE_FILES"}})
}
