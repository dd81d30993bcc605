//go:build linux

package vm

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wakepoint/wakepoint/internal/vmtest"
)

const module = "github.com/wakepoint/wakepoint"

var (
	cuts = flag.Int("vm.n", 0, "how many power cuts; 0: two, on one kernel")
	seed = flag.Uint64("vm.seed", 1, "where what is drawn begins")
)

// settings is what all machines are made of.
type settings struct {
	missing string // what this host lacks
	cache   string
	files   map[string]string
	kernels map[string]vmtest.Kernel
	initrds map[string]string
}

// session is set by TestMain before any test runs, and is not changed again.
var session settings

// report is what the tests have counted, printed at the end.
var report []string

// lines are the kernels on which everything is tried, the first one alone when
// little is.
var lines = []string{"6.1", "6.12"}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "wakepoint-vm-")
		if err == nil {
			defer os.RemoveAll(dir)
			session, err = prepare(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "vm:", err)
			return 1
		}
		code := m.Run()
		for _, line := range report {
			fmt.Println(line)
		}
		return code
	}())
}

// prepare builds what the machines need.
func prepare(dir string) (settings, error) {
	if missing := vmtest.Missing(); missing != nil {
		return settings{missing: strings.Join(missing, ", ")}, nil
	}
	s := settings{kernels: map[string]vmtest.Kernel{}, initrds: map[string]string{}}
	var err error
	if s.cache, err = vmtest.Cache(); err != nil {
		return s, err
	}
	s.files = map[string]string{
		"/init":          filepath.Join(dir, "guest"),
		"/bin/program":   filepath.Join(dir, "program"),
		"/bin/wakepoint": os.Getenv("WAKEPOINT_BIN"),
	}
	if s.files["/bin/wakepoint"] == "" {
		s.files["/bin/wakepoint"] = filepath.Join(dir, "wakepoint")
		if err := vmtest.Build(s.files["/bin/wakepoint"], module+"/cmd/wakepoint"); err != nil {
			return s, err
		}
	}
	if err := vmtest.Build(s.files["/init"], module+"/internal/vmtest/guest"); err != nil {
		return s, err
	}
	if err := vmtest.Build(s.files["/bin/program"], module+"/test/vm/program"); err != nil {
		return s, err
	}
	box, err := vmtest.Unpacked(s.cache, "busybox-static")
	if err != nil {
		return s, err
	}
	s.files["/bin/busybox"] = filepath.Join(box, "bin", "busybox")
	for _, line := range lines[:kernelCount()] {
		if s.kernels[line], err = vmtest.FindKernel(s.cache, line); err != nil {
			return s, err
		}
		s.initrds[line] = filepath.Join(dir, "initrd-"+line)
		if err := vmtest.WriteInitrd(s.initrds[line], s.kernels[line], s.files); err != nil {
			return s, err
		}
	}
	return s, nil
}

// kernelCount is how many of the kernels this run uses.
func kernelCount() int {
	if *cuts == 0 {
		return 1
	}
	return len(lines)
}
