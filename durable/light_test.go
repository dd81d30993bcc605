package durable_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// systems are those that the package is built for: GOOS/GOARCH.
var systems = []string{"linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64", "js/wasm"}

// light is all that a program takes in with the package and with its sessions, the
// standard library aside. It may only shrink.
var light = []string{
	"github.com/fxamacker/cbor/v2",
	"github.com/x448/float16", // of cbor
	"github.com/wakepoint/wakepoint/durable",
	"github.com/wakepoint/wakepoint/durable/session",
	"github.com/wakepoint/wakepoint/internal/disk",
	"github.com/wakepoint/wakepoint/internal/redo",
	"golang.org/x/sys/windows", // locks, on Windows
}

// goTool runs the go command for a system.
func goTool(t *testing.T, system string, args ...string) string {
	t.Helper()
	goos, goarch, _ := strings.Cut(system, "/")
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: go %s: %v\n%s", system, strings.Join(args, " "), err, said.String())
	}
	return string(out)
}

// TestLight: the package builds on each system, and takes in no more than it
// should.
func TestLight(t *testing.T) {
	for _, system := range systems {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			goTool(t, system, "build", ".", "./session")
			deps := strings.Fields(goTool(t, system, "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".", "./session"))
			if len(deps) < 4 {
				t.Errorf("only %v", deps)
			}
			for _, d := range deps {
				if !slices.Contains(light, d) {
					t.Errorf("%s is taken in", d)
				}
			}
		})
	}
}

// TestNoSystem: where the system has no file system that can be used one must be
// given, and then all works.
func TestNoSystem(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("needs node")
	}
	program := filepath.Join(t.TempDir(), "program.wasm")
	goTool(t, "js/wasm", "build", "-o", program, "./testdata/nosystem")
	root := strings.TrimSpace(goTool(t, "js/wasm", "env", "GOROOT"))
	run := exec.Command(filepath.Join(root, "lib", "wasm", "go_js_wasm_exec"), program)
	run.Dir = t.TempDir()
	out, err := run.CombinedOutput()
	const want = "durable: no FS: js has no file system that can be used here: one must be given: unsupported operation\nwith one: 7 <nil>\n"
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s", err, out)
	}
}
