//go:build linux

package programs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// cyclesShort is how many times each program is killed when nobody asks for
// more; cyclesFull and cyclesRisky are the full shares.
const (
	cyclesShort = 3
	cyclesFull  = 20
	cyclesRisky = 60
)

// settings are what the environment says of this run, and the binary under test.
type settings struct {
	bin    string
	plain  bool // neither Wakepoint nor the plug
	calm   bool // not the plug
	cycles string
	keep   bool
}

// session is set by TestMain before any test runs, and is not changed again.
var session settings

// report is the number of cycles that each program survived, in the order of
// the tests, printed at the end.
var report []string

func TestMain(m *testing.M) {
	if dir := os.Getenv(bareVar); dir != "" {
		if err := holdBare(dir); err != nil {
			fmt.Fprintln(os.Stderr, "make a bare root:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "programs:", err)
		code = 1
	}
	os.Exit(code)
}

func runAll(m *testing.M) (int, error) {
	session = settings{
		bin:    os.Getenv("WAKEPOINT_BIN"),
		plain:  os.Getenv("WAKEPOINT_PLAIN") != "",
		calm:   os.Getenv("WAKEPOINT_PLAIN")+os.Getenv("WAKEPOINT_CALM") != "",
		cycles: os.Getenv("WAKEPOINT_CYCLES"),
		keep:   os.Getenv("WAKEPOINT_KEEP") != "",
	}
	if _, err := cycleCount(cyclesFull); err != nil {
		return 0, err
	}
	if session.bin == "" && !session.plain {
		dir, err := os.MkdirTemp("", "wakepoint-bin-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		session.bin = filepath.Join(dir, "wakepoint")
		build := exec.Command("go", "build", "-o", session.bin, "../../cmd/wakepoint")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build cmd/wakepoint: %w\n%s", err, out)
		}
	}
	code := m.Run()
	for _, line := range report {
		fmt.Println(line)
	}
	return code, nil
}

// cycleCount is how many cycles a program with a full share of full goes through.
func cycleCount(full int) (int, error) {
	switch session.cycles {
	case "":
		return cyclesShort, nil
	case "full":
		return full, nil
	}
	n, err := strconv.Atoi(session.cycles)
	if err != nil || n < 1 {
		return 0, errors.New("WAKEPOINT_CYCLES: a number from 1, or full")
	}
	return n, nil
}

// needRoot skips a test that freezes programs, where it may not.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skip: needs root")
	}
}

// need returns the path of an installed program. Where it is missing the test
// is skipped by the name of the package that has it.
func need(t *testing.T, pkg, name string) string {
	t.Helper()
	for _, candidate := range []string{name, "/usr/sbin/" + name, "/usr/bin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	t.Skipf("skip: %s is not installed", pkg)
	return ""
}

// needFile is need for a program outside of PATH, by a pattern of its place.
func needFile(t *testing.T, pkg, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Skipf("skip: %s is not installed", pkg)
	}
	return found[len(found)-1]
}

// compileC builds testdata/NAME.c and returns the path of the program.
func compileC(t *testing.T, dir, name string, flags ...string) string {
	t.Helper()
	gcc := need(t, "gcc", "gcc")
	out := filepath.Join(dir, name)
	args := append([]string{"-O1", "-Wall", "-o", out, filepath.Join("testdata", name+".c")}, flags...)
	if text, err := exec.Command(gcc, args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc %s: %v\n%s", name, err, text)
	}
	return out
}

// testdata returns the absolute path of a file in testdata, copied into dir,
// so that what runs does not depend on the checkout.
func testdata(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, filepath.Base(name))
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
