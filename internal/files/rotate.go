package files

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Rotate copies a file that is larger than limit bytes to path.1, whose former
// contents go, and empties it. Nobody may write to it meanwhile. A file that
// does not exist is none.
func Rotate(path string, limit int64) error {
	st, err := os.Stat(path)
	if err != nil || st.Size() <= limit {
		return nil
	}
	from, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	defer from.Close()
	to, err := os.OpenFile(path+".1", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	return from.Truncate(0)
}
