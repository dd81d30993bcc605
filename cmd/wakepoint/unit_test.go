package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unitNames are the units that are shipped.
var unitNames = []string{"session-.scope.d/wakepoint.conf", "user@.service.d/wakepoint.conf", "wakepoint-recover.service", "wakepoint.slice", "wakepoint@.service"}

// TestUnit: systemd finds nothing wrong with the units, what they execute are
// command lines of ours, and the key that they may be handed is the one that
// we look for.
func TestUnit(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Its own program stands for the one that is not installed here.
	list, err := units(self)
	if err != nil {
		t.Fatal(err)
	}
	executed := 0
	for name, text := range list {
		if bytes.Contains(text, []byte(packagedProgram)) || strings.HasSuffix(name, ".service") != bytes.Contains(text, []byte(self)) {
			t.Errorf("%s executes another program", name)
		}
		for line := range strings.Lines(string(text)) {
			what, command, _ := strings.Cut(strings.TrimSpace(line), "=")
			if command = strings.TrimPrefix(command, "-"); strings.HasPrefix(what, "Exec") && strings.HasPrefix(command, self) {
				executed++
				tryHint(t, name, "wakepoint"+strings.TrimPrefix(command, self), false)
				words := strings.Fields(command)
				if cmd, _, err := newApp(nil, nil, nil, nil).root().Find(words[1:]); err != nil || cmd.Name() != words[1] {
					t.Errorf("%s: there is no command for %s", name, command)
				}
			}
		}
		if strings.HasSuffix(name, ".service") && !bytes.Contains(text, []byte("\n#LoadCredentialEncrypted="+credentialName+"\n")) {
			t.Errorf("%s: no credential %s", name, credentialName)
		}
	}
	if executed != 4 {
		t.Errorf("%d commands are executed", executed)
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("skip: systemd is not installed")
	}
	for _, with := range []string{"#LoadCredentialEncrypted", "LoadCredentialEncrypted"} {
		dir := t.TempDir()
		var files []string
		for name, text := range list {
			file := filepath.Join(dir, name)
			if filepath.Ext(name) != ".conf" { // what is added to a unit is none
				files = append(files, file)
			}
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, bytes.ReplaceAll(text, []byte("#LoadCredentialEncrypted"), []byte(with)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command("systemd-analyze", append([]string{"verify", "--man=no"}, files...)...).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("systemd-analyze verify: %v\n%s", err, out)
		}
	}
}

// What doctor misses is what no package has installed, and what it installed
// itself for another program.
func TestMissingUnits(t *testing.T) {
	want, err := units("/usr/local/bin/wakepoint")
	if err != nil {
		t.Fatal(err)
	}
	nowhere := func(string) string { return "" }
	if d := cmp.Diff(unitNames, missingUnits(want, nowhere, "/etc")); d != "" {
		t.Error(d)
	}
	own := t.TempDir()
	for _, name := range unitNames {
		file := filepath.Join(own, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, want[name], 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	here := func(name string) string { return filepath.Join(own, name) }
	if got := missingUnits(want, here, own); len(got) != 0 {
		t.Errorf("missing, though installed: %v", got)
	}
	other, err := units("/opt/wakepoint")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{unitNames[2], unitNames[4]}, missingUnits(other, here, own)); d != "" {
		t.Error(d)
	}
	if got := missingUnits(other, here, "/etc"); len(got) != 0 {
		t.Errorf("a package's own are not ours to change: %v", got)
	}
	if !slices.IsSorted(unitNames) || len(want) != len(unitNames) {
		t.Errorf("%d units", len(want))
	}
}

// No unit may execute what somebody else than root may change.
func TestRootsOwn(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("skip: needs root: a file of root's is made")
	}
	dir, err := os.MkdirTemp("/root", "wakepoint")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := rootsOwn(program); err != nil {
		t.Error(err)
	}
	for _, spoil := range []func(){
		func() { os.Chmod(program, 0o775) },
		func() { os.Chmod(program, 0o755); os.Chmod(dir, 0o777) },
		func() { os.Chmod(dir, 0o755); os.Chown(program, 1, 0) },
		func() { os.Remove(program) },
	} {
		spoil()
		if rootsOwn(program) == nil {
			t.Error("anybody may change it, and it is root's own")
		}
	}
	if rootsOwn("/bin/a b") == nil || rootsOwn("/bin/%i") == nil {
		t.Error("a path that means something else in a unit")
	}
}
