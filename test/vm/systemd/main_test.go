//go:build linux && vmsystemd

package systemd

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/wakepoint/wakepoint/internal/vmtest"
)

const module = "github.com/wakepoint/wakepoint"

var (
	image = flag.String("systemd.image", "", "the file system of Debian that scripts/vm/debian.sh has made")
	deb   = flag.String("systemd.deb", "", "the package")
	next  = flag.String("systemd.next", "", "the package of another version")
	line  = flag.String("systemd.kernel", "6.1", "the line of Debian's kernels")
	notes = flag.String("systemd.record", "", "a file for the record of a power cut; empty: none")
	seed  = flag.Uint64("systemd.seed", 1, "where what is drawn begins")
)

// settings is what all machines are made of.
type settings struct {
	cache     string
	kernel    vmtest.Kernel
	initrd    string
	bare      string // a file system with Debian, and what is installed in it
	installed string // the same with the package installed; made by the first test
}

// session is set by TestMain before any test runs; the first of them adds what
// it has installed.
var session settings

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "wakepoint-systemd-")
		if err == nil {
			defer os.RemoveAll(dir)
			session, err = prepare(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "systemd:", err)
			return 1
		}
		return m.Run()
	}())
}

// prepare builds what the machines need.
func prepare(dir string) (s settings, err error) {
	if *image == "" || *deb == "" || *next == "" {
		return s, errors.New("no image and packages were given: this is run by make vm-systemd")
	}
	if s.cache, err = vmtest.Cache(); err != nil {
		return s, err
	}
	if s.kernel, err = vmtest.FindKernel(s.cache, *line); err != nil {
		return s, err
	}
	guest, program := filepath.Join(dir, "guest"), filepath.Join(dir, "program")
	if err := vmtest.Build(guest, module+"/internal/vmtest/guest"); err != nil {
		return s, err
	}
	if err := vmtest.Build(program, module+"/test/vm/program"); err != nil {
		return s, err
	}
	s.initrd = filepath.Join(dir, "initrd")
	if err := vmtest.WriteInitrd(s.initrd, s.kernel, map[string]string{"/init": guest}); err != nil {
		return s, err
	}
	s.bare, s.installed = filepath.Join(dir, "bare"), filepath.Join(dir, "installed")
	return s, fill(s.bare, map[string]string{
		"/usr/local/bin/program": program, "/opt/wakepoint.deb": *deb, "/opt/next.deb": *next,
	})
}

// scenarios are tried one after the other, each on a machine of its own.
var scenarios = []struct {
	name string
	try  func(g *rig)
}{
	{"package", packageInstalled},
	{"keeper", keeperKilled},
	{"reboot", rebootFromSessions},
	{"reboot-killing", rebootKilling},
	{"power", powerCut},
	{"upgrade", upgraded},
	{"credential", credential},
	{"twice", startedTwice},
	{"late", storeLate},
	{"read-only", storeReadOnly},
	{"fix", doctorFixed},
	{"stuck", oneStuck},
	{"waits", groundMissing},
	{"removal", removed},
}

// TestSystemd tries everything, and says how much of it is as promised.
func TestSystemd(t *testing.T) {
	passed, all := 0, 0
	for i, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			all++
			from := session.installed
			if slices.Contains([]string{"package", "fix"}, s.name) {
				from = session.bare
			}
			s.try(newRig(t, from, rand.New(rand.NewPCG(*seed, uint64(i)))))
			if !t.Failed() {
				passed++
			}
		})
	}
	fmt.Printf("vm-systemd: %d of %d, seed %d, kernel %s\n", passed, all, *seed, *line)
}
