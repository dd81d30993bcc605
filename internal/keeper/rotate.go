package keeper

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/wakepoint/wakepoint/internal/api"
)

// outputMax is the size at which a workload's output is put aside where its
// policy names no other, in bytes.
const outputMax = 64 << 20

// rotate puts the workload's output aside when it has grown too large: it is
// copied to output.log.1, whose former contents go, and emptied. The program
// holds the file itself, and writes at its end, so that this is for a frozen
// tree only: nothing is written between the copy and the cut.
func (k *keeper) rotate() error {
	limit := k.rec.policy.LogMaxBytes
	if limit == 0 {
		limit = outputMax
	}
	path := k.path(api.OutputName)
	st, err := os.Stat(path)
	if err != nil || st.Size() <= limit {
		return nil // none: an adopted program writes elsewhere
	}
	from, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("rotate the output: %w", err)
	}
	defer from.Close()
	to, err := os.OpenFile(path+".1", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("rotate the output: %w", err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("rotate the output: %w", err)
	}
	return from.Truncate(0)
}
