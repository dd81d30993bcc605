package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/service"
	"github.com/wakepoint/wakepoint/packaging"
)

// packagedProgram is what the units execute as a package installs them.
const packagedProgram = "/usr/bin/wakepoint"

// unitsDir is where an administrator's units lie (systemd.unit(5)).
const unitsDir = "/etc/systemd/system"

// units returns the units by their names, for a program at a path.
func units(program string) (map[string][]byte, error) {
	out := map[string][]byte{}
	return out, fs.WalkDir(packaging.Units, ".", func(name string, f fs.DirEntry, err error) error {
		if err != nil || f.IsDir() {
			return err
		}
		text, err := fs.ReadFile(packaging.Units, name)
		out[name] = bytes.ReplaceAll(text, []byte(packagedProgram), []byte(program))
		return err
	})
}

// missingUnits names the units that are not installed, or in the
// administrator's own directory other than this program would have them.
func missingUnits(want map[string][]byte, installed func(string) string, own string) (missing []string) {
	for name, text := range want {
		path := installed(name)
		if path != "" && path != filepath.Join(own, name) {
			continue // a package's own
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, text) {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return missing
}

// unitsFinding judges whether a boot brings back what was running.
func (a *app) unitsFinding(ctx context.Context, program string) engine.Feature {
	f := engine.Feature{Name: "units"}
	if a.storeDir != systemStore {
		f.OK, f.Detail = true, "they look at "+systemStore+" alone: have `wakepoint recover` run for this store at boot"
		return f
	}
	if !service.Booted() {
		f.OK, f.Detail = true, "systemd does not run this machine: have `wakepoint recover` run at boot"
		return f
	}
	want, err := units(program)
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	f.Hint = "`wakepoint doctor --fix` installs and enables them"
	enabled, _ := exec.CommandContext(ctx, "systemctl", "is-enabled", service.Recovery).Output()
	switch missing := missingUnits(want, service.Installed, unitsDir); {
	case len(missing) > 0:
		f.Detail = "systemd does not know how to bring back what was running: " + inWords(missing, "and") + " missing or of another version"
	case strings.TrimSpace(string(enabled)) != "enabled":
		f.Detail = service.Recovery + " is not enabled: a boot brings nothing back"
	default:
		f.OK, f.Detail, f.Hint = true, "a boot brings back what was running", ""
	}
	return f
}

// plainPath matches what stands for itself in a unit.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9/._+-]+$`)

// fixUnits installs the units for this program and enables recovery.
func (a *app) fixUnits(ctx context.Context) error {
	if a.storeDir != systemStore {
		return misuse("", "the units are for the store in %s, not for %s", systemStore, a.storeDir)
	}
	if !service.Booted() {
		return api.Errorf(api.CodeFailed, "have `wakepoint recover` run at boot, by whatever starts things there", "systemd does not run this machine")
	}
	if os.Getuid() != 0 {
		return api.Errorf(api.CodeFailed, "run it as root, for example with sudo", "only root installs units")
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	if err := rootsOwn(program); err != nil {
		return api.Errorf(api.CodeFailed, "copy it to /usr/local/bin, and run it from there", "no unit may execute %s: %w", program, err)
	}
	want, err := units(program)
	if err != nil {
		return err
	}
	for _, name := range missingUnits(want, service.Installed, unitsDir) {
		path := filepath.Join(unitsDir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := errors.Join(os.WriteFile(path+".new", want[name], 0o644), os.Rename(path+".new", path)); err != nil {
			return err
		}
		a.say("doctor: installed %s", path)
	}
	for _, args := range [][]string{{"daemon-reload"}, {"enable", "--quiet", service.Recovery}, {"start", "--no-block", service.Recovery}} {
		if out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("systemctl %s: %w: %s", args[0], err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// rootsOwn says why somebody else than root may change what lies at a path;
// nil: nobody may.
func rootsOwn(path string) error {
	if !plainPath.MatchString(path) {
		return errors.New("its path has a character that a unit would have to escape")
	}
	for p := path; ; p = filepath.Dir(p) {
		info, err := os.Lstat(p)
		if err != nil {
			return err
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != 0 || info.Mode().Perm()&0o022 != 0 {
			return fmt.Errorf("others than root may change %s", p)
		}
		if p == "/" {
			return nil
		}
	}
}
