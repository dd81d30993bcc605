package keeper

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/procfs"
)

// shared refuses a generation with a file that a process outside the workload
// has open for writing as well: what that wrote would be undone under its hands.
func (k *keeper) shared(c *files.Capture, asked bool) error {
	if keepsFiles(k.rec.policy) {
		return nil
	}
	h := k.tree.Handle()
	root := h.Init
	if root == 0 {
		root = h.Command
	}
	found, err := k.written.others.Look(c, int(root), time.Now(), asked)
	if err != nil {
		return fmt.Errorf("look who else has its files open: %w", err)
	}
	if len(found) > 0 {
		return &engine.RefusedError{Obstacles: sharedObstacles(h.Command, found)}
	}
	return nil
}

func sharedObstacles(command engine.PID, found []files.Sharer) []engine.Obstacle {
	var out []engine.Obstacle
	for _, s := range found {
		out = append(out, engine.Obstacle{
			PID:  command,
			What: fmt.Sprintf("the file %s is also open for writing by pid %d (%s), which lies outside the workload", s.Path, s.PID, s.Name),
			Hint: "let that close it, or have restores leave the files as they are with --files=keep",
		})
	}
	return out
}

// Check lists all that stands in the way of looking after a process and its
// descendants: what engine.Check finds, and files that others write to as well.
func Check(pid engine.PID) ([]engine.Obstacle, error) {
	list, err := engine.Check(pid)
	if err != nil {
		return nil, err
	}
	found, err := files.Sharers(int(pid), outermost(int(pid)))
	return append(list, sharedObstacles(pid, found)...), err
}

// outermost is the init of the workload to which a process belongs, or the
// process itself.
func outermost(pid int) int {
	for _, p := range procfs.NewReader("/proc").Line(pid) {
		if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p)); err == nil && strings.HasPrefix(string(line), "wakepoint-init\x00") {
			return p
		}
	}
	return pid
}
