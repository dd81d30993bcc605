package keeper

import (
	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/files"
)

// outputMax is the size at which a workload's output is put aside where its
// policy names no other, in bytes.
const outputMax = 64 << 20

// rotate puts the workload's output aside when it has grown too large. The
// program holds the file itself, and writes at its end, so that this is for a
// frozen tree only: nothing is written between the copy and the cut. An
// adopted program writes elsewhere.
func (k *keeper) rotate() error {
	limit := k.rec.policy.LogMaxBytes
	if limit == 0 {
		limit = outputMax
	}
	return files.Rotate(k.path(api.OutputName), limit)
}
