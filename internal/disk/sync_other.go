//go:build !linux

package disk

import "os"

// datasync is Sync, which on darwin is F_FULLFSYNC and on Windows
// FlushFileBuffers.
func datasync(f *os.File) error { return f.Sync() }
