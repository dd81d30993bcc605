package engine

import "testing"

// TestZooTree: who is whose child, in which session and group, and how it ended.
func TestZooTree(t *testing.T) {
	zoo(t, "tree", []animal{
		{name: "grandchildren"}, {name: "orphans"}, {name: "daemonised"}, {name: "dead_session"}, {name: "dead_group"},
		{name: "old_session"}, {name: "subreaper"}, {name: "zombies"}, {name: "stopped"}, {name: "stopped_unheard"},
		{name: "vforks"}, {name: "slow_vfork"}, {name: "bustle"}, {name: "odd_signals"},
		{name: "leaderless", refused: "first thread"},
		{name: "traced_child", refused: "traced"},
	})
}
