// Command wakepoint checkpoints running programs and brings them back. The
// same program is a workload's keeper, the keeper's guard and the init of its
// process tree.
package main

import (
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/engine"
)

func main() {
	engine.InitMain() // returns unless this process is the init of a tree
	keepToOurselves()
	os.Exit(execute(os.Args[1:]))
}

// keepToOurselves keeps descriptors that a careless parent left open from
// everything that is started here: a keeper that held the pipe of a script
// would keep its reader waiting for ever.
func keepToOurselves() { _ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) }

// execute runs one command line and returns its exit code.
func execute(args []string) int {
	a := newApp(os.Stdin, os.Stdout, os.Stderr, os.Environ())
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	return a.report(root.Execute())
}
