//go:build !sabotage

package durable

// equal compares two checksums; see guard_sabotage.go.
func equal[T comparable](a, b T) bool { return a == b }
