package bundle

import (
	"context"
	"io"
)

// Source is a file that can be read until a context ends.
type Source struct {
	Context context.Context
	File    io.ReaderAt
}

// ReadAt is that of the file; the context's error once that has ended.
func (s Source) ReadAt(b []byte, off int64) (int, error) {
	if err := s.Context.Err(); err != nil {
		return 0, err
	}
	return s.File.ReadAt(b, off)
}

// Target can be written to until a context ends, and counts the bytes.
type Target struct {
	Context context.Context
	File    io.Writer
	N       int64 // bytes written
}

// Write is that of the file; the context's error once that has ended.
func (t *Target) Write(p []byte) (int, error) {
	if err := t.Context.Err(); err != nil {
		return 0, err
	}
	n, err := t.File.Write(p)
	t.N += int64(n)
	return n, err
}
