package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/keeper"
)

// slowHint is what can be done about files that are read in a freeze.
const slowHint = "put them on XFS or btrfs, whose files are cloned instead; or leave them as they are with --files keep; or start it on its own files after a crash with --on-crash fresh, and seldom checkpoint it with --every"

// budgetText is a policy's pause budget as its flag takes it.
func budgetText(p api.Policy) string {
	if p.PauseBudgetSeconds == 0 {
		return "100ms"
	}
	return time.Duration(p.PauseBudgetSeconds * float64(time.Second)).String()
}

// slowText names files with their sizes, and what they take.
func slowText(list []api.SlowFile) string {
	var words []string
	for _, f := range list {
		what := bytesText(f.SizeBytes)
		if f.Files > 0 {
			what = fmt.Sprintf("%d names in it", f.Files)
		}
		words = append(words, fmt.Sprintf("%s (%s, %s)", f.Path, what, secondsText(f.Seconds)))
	}
	return strings.Join(words, ", ")
}

// warnOfFiles says which files of a tree would be read while it stands still,
// where that takes long.
func (a *app) warnOfFiles(h engine.Handle) {
	slow, err := keeper.SlowFiles(h)
	if err != nil || len(slow) == 0 {
		return
	}
	a.say("it will stand still for files that it has open for writing, whenever they have changed, since their file system cannot clone them: %s", slowText(slow))
	fmt.Fprintf(a.err, "hint: %s\n", slowHint)
}
