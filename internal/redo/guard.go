//go:build !sabotage

package redo

// same compares two checksums; see guard_sabotage.go.
func same(a, b uint32) bool { return a == b }
