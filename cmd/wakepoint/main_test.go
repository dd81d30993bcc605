package main

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wakepoint/wakepoint/internal/engine"
)

// TestMain lets this program be the tests, the wakepoint of the scripts, and
// the init of a tree, by the name it was started with.
func TestMain(m *testing.M) {
	engine.InitMain()
	keepToOurselves() // what the test's own parents left open is no program's
	testscript.Main(m, map[string]func(){"wakepoint": main})
}

// TestScript runs testdata/script: every behaviour that a person can see.
//
// Conditions: [root], [setpriv], [vim], [top], [clones] (of files,
// on XFS, which can be mounted), [live] (programs can be saved), and those of testscript.
// Commands besides those of testscript:
//
//	code N CMD...        runs a program and compares its exit code
//	zombie VAR           makes a zombie; its PID is in $VAR
//	kthread VAR          the PID of a kernel thread is in $VAR
//	background VAR CMD   starts a program of its own; its PID is in $VAR
//	piped VAR            starts a program that shares a pipe with us; its PID is in $VAR
//	alive PID            there is a process of this number
//	talk N FILE CMD...   runs a program on a terminal and talks to it
//	cut NAME             kills everything of a workload, keeper and guard too
//	waitfor NAME STATE   waits for a workload's state
//	grows NAME FILE      waits until it has printed more than FILE holds
//	soonhas FILE N       waits until FILE holds a number of at least N
//	fields FILE NAME...  the JSON in FILE has these fields; with ... at the end also others
//	small DIR SIZE       mounts a small file system, for a store in DIR/store
//	made DIR KIND SIZE   mounts a new file system of a kind, as xfs
//	remount DIR ro|rw    changes whether it can be written
//	everyfile STORE NAME      damages every file of a store; all say so
//	startdamaged STORE NAME G starts a workload from damaged copies of its store
//	state DIR            makes a directory of package durable, with things in it
//	hold DIR             has it open until the script ends
//	holds DIR            it has all that was put
//	flip FILE OFFSET     changes a bit
//	steady FILE          the numbers in FILE count up, but for restores
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("WAKEPOINT_STORE", e.WorkDir+"/store")
			e.Setenv("WAKEPOINT_KEY", e.WorkDir+"/key")
			e.Defer(func() { removeAll(e.WorkDir) })
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Getuid() == 0, nil
			case "live":
				return live(), nil
			case "setpriv", "vim", "top":
				_, err := exec.LookPath(cond)
				return err == nil, nil
			case "clones":
				return clones(), nil
			}
			return false, os.ErrInvalid
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": scriptCode, "zombie": scriptZombie, "kthread": scriptKernelThread,
			"background": scriptBackground, "piped": scriptPiped, "talk": scriptTalk, "alive": scriptAlive, "cut": scriptCut,
			"waitfor": scriptWaitFor, "grows": scriptGrows, "soonhas": scriptSoonHas, "steady": scriptSteady,
			"small": scriptSmall, "made": scriptMade, "remount": scriptRemount, "fields": scriptFields, "everyfile": scriptEveryFile, "startdamaged": scriptStartDamaged,
			"state": scriptState, "hold": scriptHold, "holds": scriptHolds, "flip": scriptFlip,
		},
	})
}

// scriptCode runs a program, which may fail, and compares its exit code.
func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N CMD...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if exit, ok := err.(*exec.ExitError); ok {
		code = strconv.Itoa(exit.ExitCode())
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

func scriptZombie(ts *testscript.TestScript, _ bool, args []string) {
	cmd := exec.Command("true")
	ts.Check(cmd.Start())
	ts.Defer(func() { cmd.Wait() })
	for {
		p, err := readProcess(cmd.Process.Pid)
		ts.Check(err)
		if p.state == 'Z' {
			break
		}
	}
	ts.Setenv(args[0], strconv.Itoa(cmd.Process.Pid))
}

func scriptKernelThread(ts *testscript.TestScript, _ bool, args []string) {
	entries, err := os.ReadDir("/proc")
	ts.Check(err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, err := readProcess(pid); err == nil && p.flags&kernelThread != 0 {
			ts.Setenv(args[0], e.Name())
			return
		}
	}
	ts.Logf("no kernel thread is to be seen here, as in a container")
	ts.Setenv(args[0], "")
}

// TestHelp: every command that people see says what it does and its exit codes.
func TestHelp(t *testing.T) {
	commands := newApp(os.Stdin, os.Stdout, os.Stderr, nil).root().Commands()
	for len(commands) > 0 {
		c := commands[0]
		commands = append(commands[1:], c.Commands()...)
		if c.Hidden {
			continue
		}
		if !c.HasSubCommands() && !strings.Contains(c.Long, "Exit codes:\n\n    0      done\n") {
			t.Errorf("%s: no exit codes in %q", c.Name(), c.Long)
		}
		for line := range strings.Lines(c.Long) {
			if len([]rune(line)) > 81 {
				t.Errorf("%s: a line of the help is too long: %s", c.Name(), line)
			}
		}
	}
}
