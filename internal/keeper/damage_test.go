package keeper

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
)

// spoils are what may become of a file.
var spoils = map[string]func(file string) error{
	"missing":   os.Remove,
	"empty":     func(file string) error { return os.Truncate(file, 0) },
	"truncated": func(file string) error { return os.Truncate(file, 40) },
	"flipped": func(file string) error {
		p, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		p[len(p)/2] ^= 0x10
		return os.WriteFile(file, p, 0o600)
	},
}

// A workload that cannot be read any more is named, refused, and can be
// removed; what can be made again is; the others are not held up.
func TestRealDamage(t *testing.T) {
	s := site(t)
	for _, name := range []string{"web", "other"} {
		spec := shell(counter)
		spec.Name = name
		launch(t, s, spec, api.Policy{EverySeconds: 10})
	}
	for _, name := range []string{"web", "other"} {
		killAll(t, s, name)
	}
	for _, c := range []struct {
		file  string
		fatal bool
	}{
		{"workload", false}, {"records/spec", true}, {"records/policy", true},
		{"records/run", false}, {"records/history", false}, {"state", false},
	} {
		for how, spoil := range spoils {
			t.Run(c.file+" "+how, func(t *testing.T) {
				copied := site(t)
				if out, err := exec.Command("cp", "-a", s.StoreDir, copied.StoreDir).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				file := filepath.Join(copied.StoreDir, "workloads/web", c.file)
				if err := spoil(file); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
				damagedHere(t, copied, c.file, c.fatal)
			})
		}
	}
}

func damagedHere(t *testing.T, s Site, file string, fatal bool) {
	t.Helper()
	ctx := context.Background()
	want := func(what string, e *api.Error) {
		t.Helper()
		if e == nil || e.Code != api.CodeIntegrity || !strings.Contains(e.Message, filepath.Base(file)) || !strings.Contains(e.Hint, "wakepoint rm web") {
			t.Errorf("%s: %+v", what, e)
		}
	}
	list, err := List(ctx, s)
	if err != nil || len(list) != 2 || list[0].Name != "other" || list[0].State != api.Down || list[1].Name != "web" {
		t.Fatalf("%+v %v", list, err)
	}
	if v := list[1]; fatal {
		want("status", v.Damage)
		if v.State != api.Damaged {
			t.Errorf("state %q", v.State)
		}
		_, err = Start(ctx, s, "web", nil)
		want("start", api.AsError(err))
		_, err = Restore(ctx, s, "web", RestoreOptions{}, nil)
		want("restore", api.AsError(err))
	} else if v.Damage != nil || v.State != api.Down {
		t.Errorf("%+v", v)
	}
	outs, err := Recover(ctx, s, nil)
	if err != nil || len(outs) != 2 || outs[0].Err != nil {
		t.Fatalf("recover: %+v %v", outs, err)
	}
	if fatal {
		want("recover", outs[1].Err)
	} else if outs[1].Err != nil {
		t.Errorf("recover: %v", outs[1].Err)
	}
	if err := Remove(ctx, s, "web"); err != nil {
		t.Errorf("remove: %v", err)
	}
	if list, err := List(ctx, s); err != nil || len(list) != 1 {
		t.Errorf("after it was removed: %+v %v", list, err)
	}
}

// What is damaged while its keeper lives runs on, is named, and its tree goes
// with it when it is removed, also where the keeper is gone by then.
func TestRealDamageOfWhatRuns(t *testing.T) {
	for _, keeperToo := range []bool{false, true} {
		for _, file := range []string{"workload", "records/spec", "records/run"} {
			s := site(t)
			out := launch(t, s, shell(counter), api.Policy{EverySeconds: 10})
			if err := os.WriteFile(filepath.Join(s.StoreDir, "workloads", out.Name, file), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			v, err := StatusOf(context.Background(), s, out.Name)
			if err != nil || v.State != api.Running || (v.Damage != nil) != (file == "records/spec") {
				t.Errorf("%s: %+v %v", file, v, err)
			}
			if keeperToo {
				for _, pid := range []int{parentOf(v.KeeperPID), v.KeeperPID} {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
				eventually(t, "the keeper's end", func() bool { return startTicks(v.KeeperPID) == 0 })
			}
			if err := Remove(context.Background(), s, out.Name); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			eventually(t, file+": the program's end", func() bool { return startTicks(v.PID) == 0 })
			if _, err := os.Lstat(v.Notify); v.Notify == "" || !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: its socket %q is left: %v", file, v.Notify, err)
			}
		}
	}
}

// A workload whose record of what runs is lost runs on: it is taken over, not
// brought back beside itself.
func TestRealLostRunRecord(t *testing.T) {
	s := site(t)
	ctx := context.Background()
	out := launch(t, s, shell(counter), api.Policy{EverySeconds: 10})
	for _, pid := range []int{parentOf(out.Status.KeeperPID), out.Status.KeeperPID} {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	eventually(t, "the keeper's end", func() bool { return startTicks(out.Status.KeeperPID) == 0 })
	if err := os.Remove(filepath.Join(s.StoreDir, "workloads", out.Name, "records/run")); err != nil {
		t.Fatal(err)
	}
	outs, err := Recover(ctx, s, nil)
	if err != nil || len(outs) != 1 || outs[0].Err != nil {
		t.Fatalf("%+v %v", outs, err)
	}
	if outs[0].Status.PID != out.Status.PID || outs[0].Words != "was running" {
		t.Errorf("%+v", outs[0])
	}
	goesOn(t, s, out.Name)
}

// Whoever asks a keeper that is stopped is told so, with its PID, and does not
// wait for ever; what looks at the workload shows what the records say.
func TestRealSilentKeeper(t *testing.T) {
	s := site(t)
	s.silent = 500 * time.Millisecond
	ctx := context.Background()
	out := launch(t, s, shell(counter), api.Policy{EverySeconds: 10})
	keeper := out.Status.KeeperPID
	if err := syscall.Kill(keeper, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(keeper, syscall.SIGCONT)
	eventually(t, "its keeper stands still", func() bool {
		threads, err := filepath.Glob("/proc/" + strconv.Itoa(keeper) + "/task/*/stat")
		for _, stat := range threads {
			if p, rerr := os.ReadFile(stat); rerr == nil && !strings.Contains(string(p), ") T ") {
				return false
			}
		}
		return err == nil && len(threads) > 0
	})
	every := 2.0
	for what, ask := range map[string]func() error{
		"stop":       func() error { _, err := Stop(ctx, s, out.Name, StopOptions{}, nil); return err },
		"rm":         func() error { return Remove(ctx, s, out.Name) },
		"restore":    func() error { _, err := Restore(ctx, s, out.Name, RestoreOptions{}, nil); return err },
		"start":      func() error { _, err := Start(ctx, s, out.Name, nil); return err },
		"signal":     func() error { return Signal(ctx, s, out.Name, 10) },
		"checkpoint": func() error { _, err := Checkpoint(ctx, s, out.Name, ""); return err },
		"set":        func() error { _, err := Set(ctx, s, out.Name, api.PolicyChange{EverySeconds: &every}); return err },
		"attach":     func() error { _, err := Attach(ctx, s, out.Name, false); return err },
	} {
		e := api.AsError(ask())
		if e == nil || !strings.Contains(e.Message, "its keeper (pid "+strconv.Itoa(keeper)+") is stopped") || !strings.Contains(e.Hint, "kill -CONT "+strconv.Itoa(keeper)) {
			t.Errorf("%s: %+v", what, e)
		}
	}
	v, err := StatusOf(ctx, s, out.Name)
	if err != nil || v.State != api.Running || v.KeeperPID != keeper || v.LastError == nil {
		t.Errorf("%+v %v", v, err)
	}
	if err := syscall.Kill(keeper, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.silent = 0
	if _, err := Checkpoint(ctx, s, out.Name, ""); err != nil {
		t.Error(err)
	}
	// What was said to have failed is not done afterwards.
	v, err = StatusOf(ctx, s, out.Name)
	if err != nil || v.PID != out.Status.PID || v.Policy.EverySeconds != 10 {
		t.Errorf("%+v %v", v, err)
	}
	goesOn(t, s, out.Name)
}

// A keeper that takes long over an answer is waited for, however short the
// patience with one that is silent.
func TestSlowKeeperIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	path, release, err := api.Address(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	looked := make(chan struct{}, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var q api.Request
				if api.ReadLine(c, &q) != nil {
					return
				}
				if q.Op != api.OpStatus {
					<-looked
					<-looked // it has been asked how it is, twice
				}
				_ = api.WriteLine(c, api.Reply{Done: true, Status: &api.Status{}})
				looked <- struct{}{}
			}()
		}
	}()
	s := Site{silent: time.Second}
	if _, err := s.ask(context.Background(), dir, "web", api.Request{Op: api.OpCheckpoint}, nil); err != nil {
		t.Error(err)
	}
}

// TestPlausibleEnd: what an init writes, and nothing else.
func TestPlausibleEnd(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "\x00\x09\x00\x00\x01\x00\x00\x00": true, "\x00\x00\x00\x00\x00\x00\x00\x00": true,
		"\x00": false, "garbage!": false, "\x00\x00\x01\x00\x01\x00\x00\x00": false, "\x00\x00\x00\x00\x02\x00\x00\x00": false,
	} {
		if plausibleEnd([]byte(text)) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}
