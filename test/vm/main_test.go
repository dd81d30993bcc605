//go:build linux

package vm

import (
	"flag"
	"fmt"
	"maps"
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
		return settings{missing: strings.Join(missing, ", ") + " not installed"}, nil
	}
	cache, err := vmtest.Cache()
	if err != nil {
		return settings{}, err
	}
	s := settings{cache: cache, kernels: map[string]vmtest.Kernel{}, initrds: map[string]string{}}
	box, err := vmtest.Unpacked(s.cache, "busybox-static")
	for _, line := range lines[:kernelCount()] {
		if err == nil {
			s.kernels[line], err = vmtest.FindKernel(s.cache, line)
		}
	}
	if err != nil {
		return settings{missing: err.Error()}, nil // no archive of Debian's to fetch it from
	}
	return s, s.build(dir, box)
}

// build makes an initramfs for each kernel.
func (s *settings) build(dir, box string) error {
	files := map[string]string{
		"/init":          filepath.Join(dir, "guest"),
		"/bin/program":   filepath.Join(dir, "program"),
		"/bin/wakepoint": os.Getenv("WAKEPOINT_BIN"),
		"/bin/busybox":   filepath.Join(box, "bin", "busybox"),
	}
	if files["/bin/wakepoint"] == "" {
		files["/bin/wakepoint"] = filepath.Join(dir, "wakepoint")
		if err := vmtest.Build(files["/bin/wakepoint"], module+"/cmd/wakepoint"); err != nil {
			return err
		}
	}
	if err := vmtest.Build(files["/init"], module+"/internal/vmtest/guest"); err != nil {
		return err
	}
	if err := vmtest.Build(files["/bin/program"], module+"/test/vm/program"); err != nil {
		return err
	}
	if *cuts > 0 {
		for _, program := range []string{"redis-server", "redis-cli"} {
			needs, err := vmtest.Needs(program)
			if err != nil {
				return err
			}
			maps.Copy(files, needs)
		}
	}
	for line, kernel := range s.kernels {
		s.initrds[line] = filepath.Join(dir, "initrd-"+line)
		if err := vmtest.WriteInitrd(s.initrds[line], kernel, files); err != nil {
			return err
		}
	}
	return nil
}

// kernelCount is how many of the kernels this run uses.
func kernelCount() int {
	if *cuts == 0 {
		return 1
	}
	return len(lines)
}
