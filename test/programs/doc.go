// Package programs holds programs that nobody wrote for Wakepoint against the
// plug: each is started under protection, worked by its own client,
// checkpointed while it works, killed together with its keeper by SIGKILL,
// robbed of what a boot takes away, recovered, and asked by its client whether
// its state is that of a committed generation and whether it goes on.
//
// The tests know the program `wakepoint` by its command line alone.
//
//	go test ./test/programs -run TestRedis -v     one program, three cycles
//	WAKEPOINT_CYCLES=full go test -timeout 60m    20 cycles each, 60 where the risk is greatest
//	WAKEPOINT_CYCLES=7                            as many
//	WAKEPOINT_PLAIN=1                             without Wakepoint and without the plug: are the tests right?
//	WAKEPOINT_CALM=1                              checkpointed as ever, but never killed: do checkpoints disturb?
//	WAKEPOINT_BIN=FILE                            this binary, instead of building ./cmd/wakepoint
//	WAKEPOINT_KEEP=1                              keep the directories of a failed test
package programs
