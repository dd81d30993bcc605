//go:build !linux

package disk

// volatile cannot tell outside Linux.
func volatile(string) (bool, error) { return false, nil }

// remote cannot tell outside Linux.
func remote(string) (string, error) { return "", nil }
