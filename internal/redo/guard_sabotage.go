//go:build sabotage

package redo

// Blind is asked before each comparison of two checksums whether to leave it out.
// It exists in builds for `make sabotage` alone.
var Blind func() bool

func same(a, b uint32) bool { return Blind != nil && Blind() || a == b }
