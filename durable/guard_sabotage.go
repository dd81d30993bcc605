//go:build sabotage

package durable

// Blind is asked before each comparison of two checksums whether to leave it out.
// It exists in builds for `make sabotage` alone.
var Blind func() bool

func equal[T comparable](a, b T) bool { return Blind != nil && Blind() || a == b }
