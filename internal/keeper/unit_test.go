package keeper

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/service"
)

// unitSite is where the keeper of a unit finds itself.
func unitSite() Site {
	program := os.Getenv("UNIT_PROGRAM")
	return Site{StoreDir: os.Getenv("UNIT_STORE"), Program: program, Units: &service.Units{Runtime: os.Getenv("UNIT_RUNTIME")}}
}

// unitManager stands for systemd: it starts a unit's keeper outside of all
// that the test is.
const unitManager = `#!/bin/sh
case "$1" in
start)
	name=${3#wakepoint@}; name=${name%.service}
	echo "$*" >>"$UNIT_RUNTIME/starts"
	flock -n "$UNIT_RUNTIME/$name.active" setsid "$UNIT_PROGRAM" _unit "$name" </dev/null >>"$UNIT_RUNTIME/journal" 2>&1 &
	;;
show) echo ActiveState=active ;;
*) exit 1 ;;
esac
`

// siteOfUnits is a site whose keepers have units.
func siteOfUnits(t *testing.T) Site {
	t.Helper()
	s := site(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s.Units = &service.Units{Runtime: dir, Systemctl: filepath.Join(dir, "systemctl"), Manager: "/proc/self"}
	if err := os.WriteFile(s.Units.Systemctl, []byte(unitManager), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("UNIT_STORE", s.StoreDir)
	t.Setenv("UNIT_RUNTIME", dir)
	t.Setenv("UNIT_PROGRAM", program)
	t.Cleanup(func() {
		if text, _ := os.ReadFile(filepath.Join(dir, "journal")); t.Failed() {
			t.Logf("%s", text)
		}
	})
	return s
}

// A unit's keeper launches, halts, brings back, starts, restores and tells of
// failures as a guard's does; what it was told to do is in no command line.
func TestRealUnit(t *testing.T) {
	s := siteOfUnits(t)
	ctx := context.Background()
	spec := shell(counter)
	spec.Name, spec.Env = "web", append(spec.Env, "SECRET=do-not-tell")
	out := launch(t, s, spec, api.Policy{EverySeconds: 3600})
	if out.Status.State != api.Running || out.Status.Generation != "g1" {
		t.Fatalf("%+v", out.Status.Row)
	}
	line, err := os.ReadFile("/proc/" + strconv.Itoa(out.Status.KeeperPID) + "/cmdline")
	if f := strings.Split(string(line), "\x00"); err != nil || !slices.Equal(f[1:], []string{"_unit", "web", ""}) {
		t.Errorf("the keeper is %q: %v", line, err)
	}
	if env, err := os.ReadFile("/proc/" + strconv.Itoa(out.Status.KeeperPID) + "/environ"); err != nil || strings.Contains(string(env), "do-not-tell") {
		t.Errorf("the keeper's environment: %q %v", env, err)
	}
	said := len(printed(t, s, "web"))
	if err := Halt(ctx, s, "web", false, nil); err != nil {
		t.Fatal(err)
	}
	if v, err := StatusOf(ctx, s, "web"); err != nil || v.State != api.Down || v.LostWorkSeconds != 0 || v.PID != 0 {
		t.Errorf("halted: %+v %v", v.Row, err)
	}
	before := printed(t, s, "web")
	if len(before) < said {
		t.Fatal("it prints backwards")
	}
	all, err := Recover(ctx, s, nil)
	if err != nil || len(all) != 1 || all[0].Err != nil || all[0].Words != "restored from g2" {
		t.Fatalf("%+v %v", all, err)
	}
	unbroken(t, s, len(before))
	if all, err = Recover(ctx, s, nil); err != nil || len(all) != 1 || all[0].Words != "was running" {
		t.Errorf("%+v %v", all, err)
	}
	if _, err := Stop(ctx, s, "web", StopOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if out, err = Start(ctx, s, "web", nil); err != nil || out.Words != "restored from g3" {
		t.Errorf("%+v %v", out, err)
	}
	if _, err := Stop(ctx, s, "web", StopOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if out, err = Restore(ctx, s, "web", RestoreOptions{Generation: "g1"}, nil); err != nil || out.Words != "restored from g1" {
		t.Errorf("%+v %v", out, err)
	}
	if _, err := Launch(ctx, s, api.Spec{Name: "no", Argv: []string{"/missing"}, Dir: "/"}, api.Policy{}, nil); api.AsError(err).Code != 127 {
		t.Errorf("a command that is not there: %v", err)
	}
}

// unbroken wants the numbers of a counter to go on without a gap after n lines.
func unbroken(t *testing.T, s Site, n int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); len(printed(t, s, "web")) < n+3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not go on")
		}
	}
	last := 0
	for _, l := range printed(t, s, "web") {
		if strings.HasPrefix(l, "wakepoint:") {
			continue
		}
		if m, err := strconv.Atoi(l); err != nil || m != last+1 {
			t.Fatalf("%q comes after %d", l, last)
		}
		last++
	}
}

// A unit that is started twice, or while a guard's keeper has the workload,
// leaves that alone; another keeper takes over what one that died left.
func TestRealUnitTwice(t *testing.T) {
	s := siteOfUnits(t)
	guarded := s
	guarded.Units = nil
	spec := shell(counter)
	spec.Name = "web"
	out := launch(t, guarded, spec, api.Policy{EverySeconds: 3600})
	if err := UnitMain(context.Background(), s, "web"); api.AsError(err).Code != api.CodeLocked {
		t.Errorf("a unit beside a guard: %v", err)
	}
	v, err := StatusOf(context.Background(), s, "web")
	if err != nil || v.KeeperPID != out.Status.KeeperPID || v.PID != out.Status.PID {
		t.Fatalf("%+v %v", v.Row, err)
	}
	for _, pid := range []int{parentOf(v.KeeperPID), v.KeeperPID} {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	all, err := Recover(context.Background(), s, nil)
	if err != nil || len(all) != 1 || all[0].Err != nil || all[0].Words != "was running" || all[0].Status.PID != v.PID {
		t.Fatalf("%+v %v", all, err)
	}
	if parent := parentOf(all[0].Status.KeeperPID); parent == os.Getpid() {
		t.Error("the keeper is a child of who asked for it")
	}
}

// A keeper that is asked for an upgrade executes the program as it is
// installed now: the same process, and the workload's own, which miss nothing.
// One that cannot be executed is left alone.
func TestRealUpgrade(t *testing.T) {
	for _, guarded := range []bool{false, true} {
		s := siteOfUnits(t)
		installed := filepath.Join(t.TempDir(), "wakepoint")
		install := func(from string) {
			t.Helper()
			p, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(installed+".new", p, 0o755)
			}
			if err == nil {
				err = os.Rename(installed+".new", installed)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		install(os.Getenv("UNIT_PROGRAM"))
		t.Setenv("UNIT_PROGRAM", installed)
		if s.Program = installed; guarded {
			s.Units = nil
		}
		spec := shell(counter)
		spec.Name = "web"
		out := launch(t, s, spec, api.Policy{EverySeconds: 3600})
		keeper := out.Status.KeeperPID
		hup := func(arrived func() bool) {
			t.Helper()
			if err := syscall.Kill(keeper, syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(time.Minute); !arrived(); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("guarded %v: nothing came of it", guarded)
				}
			}
		}
		log := func() string {
			p, _ := os.ReadFile(filepath.Join(os.Getenv("UNIT_RUNTIME"), "journal"))
			if guarded {
				p, _ = os.ReadFile(filepath.Join(s.StoreDir, "workloads", "web", logName))
			}
			return string(p)
		}
		if !guarded {
			install("/dev/null")
			hup(func() bool { return strings.Contains(log(), "no upgrade") })
			install("/proc/" + strconv.Itoa(keeper) + "/exe")
		}
		n := len(printed(t, s, "web"))
		hup(func() bool {
			v, err := StatusOf(context.Background(), s, "web")
			return err == nil && v.KeeperPID == keeper && v.Epoch > out.Status.Epoch
		})
		v, err := StatusOf(context.Background(), s, "web")
		if err != nil || v.PID != out.Status.PID || v.KeeperPID != keeper || v.State != api.Running {
			t.Errorf("guarded %v: %+v %v", guarded, v.Row, err)
		}
		if to, err := os.Readlink("/proc/" + strconv.Itoa(keeper) + "/exe"); err != nil || to != installed {
			t.Errorf("guarded %v: the keeper runs %q %v", guarded, to, err)
		}
		if g, err := Checkpoint(context.Background(), s, "web", ""); err != nil {
			t.Errorf("guarded %v: %v %v", guarded, g, err)
		}
		unbroken(t, s, n)
		if err := Remove(context.Background(), s, "web"); err != nil {
			t.Error(err)
		}
	}
}
