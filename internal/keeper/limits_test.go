package keeper

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/policy"
)

// What takes too much room goes, the oldest first, but never what is protected;
// status says how much is left.
func TestSizeLimit(t *testing.T) {
	bubble(t, api.Policy{KeepSizeBytes: 5000}, func(r *rig) {
		r.w.genSize = 1000
		r.begin(ActLaunch, RestoreOptions{})
		if e := r.ask(api.Request{Op: api.OpCheckpoint, Tag: "mine"}).Error; e != nil {
			t.Fatal(e)
		}
		time.Sleep(100500 * time.Millisecond)
		gens := r.w.generations()
		if len(gens) != 5 || gens[0] != 2 || gens[4] != 102 {
			t.Errorf("%v", gens)
		}
		if v := r.k.status(); v.SizeBytes != 5000 {
			t.Errorf("%d bytes", v.SizeBytes)
		}
		for _, g := range gens[:4] {
			r.granted(api.Request{Op: api.OpPin, Generation: g.String()})
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if after := r.w.generations(); len(after) != 5 || !slices.Equal(after[:4], gens[:4]) || after[4] != 112 {
			t.Errorf("%v were pinned, and there are %v", gens[:4], after)
		}
		less := int64(2000)
		r.granted(api.Request{Op: api.OpSet, Change: &api.PolicyChange{KeepSizeBytes: &less}})
		if v := r.k.status(); v.SizeBytes != 5000 || v.Policy.KeepSizeBytes != 2000 {
			t.Errorf("%d bytes of at most %d", v.SizeBytes, v.Policy.KeepSizeBytes)
		}
		r.granted(api.Request{Op: api.OpPin, Generation: gens[1].String(), Remove: true})
		if out := r.granted(api.Request{Op: api.OpCollect}); len(out.Dropped) != 1 || out.FreedBytes != 1000 {
			t.Errorf("%+v", out)
		}
		none := int64(-1)
		r.granted(api.Request{Op: api.OpSet, Change: &api.PolicyChange{KeepSizeBytes: &none}})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(r.w.generations()); n < 8 {
			t.Errorf("without a limit there are %d", n)
		}
	})
}

// Of the disk 5 % stay free: checkpoints fail until there is room, nothing is
// let go for it, and a stop is committed all the same.
func TestDiskRoom(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.w.genSize = 10
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(2500 * time.Millisecond)
		free := func(n int64) { r.w.mu.Lock(); r.w.free = n; r.w.mu.Unlock() }
		free(4)
		r.refused(api.Request{Op: api.OpCheckpoint}, api.CodeFailed, "no space left on device", "make room")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if v := r.k.status(); v.SizeBytes != 30 {
			t.Errorf("%d bytes", v.SizeBytes)
		}
		if v := r.k.status(); v.Failures < 2 || v.Stretched != string(policy.Failing) || v.IntervalSeconds <= 1 {
			t.Errorf("%d failures, %q, %v s", v.Failures, v.Stretched, v.IntervalSeconds)
		}
		if n := len(r.w.generations()); n != 3 {
			t.Errorf("%d generations", n)
		}
		free(5)
		time.Sleep(time.Minute)
		synctest.Wait()
		if v := r.k.status(); v.Failures != 0 || v.Stretched != "" || len(r.w.generations()) < 4 {
			t.Errorf("%d failures, %q, %v", v.Failures, v.Stretched, r.w.generations())
		}
		free(4)
		r.granted(api.Request{Op: api.OpStop})
		r.wantState(api.Stopped)
	})
}

// Where more would be written than is allowed the interval is stretched; status
// says so, and how much was written.
func TestWriteLimit(t *testing.T) {
	bubble(t, api.Policy{WriteLimitBytes: 1000, KeepSizeBytes: -1}, func(r *rig) {
		r.w.genSize = 50_000
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(11500 * time.Millisecond) // 600,000 bytes at once
		if v := r.k.status(); v.Generation != "g12" || v.Stretched != "" || v.WrittenDayBytes != 600_000 || v.IntervalSeconds != 1 {
			t.Errorf("%+v", v)
		}
		time.Sleep(10 * time.Minute) // 833 a second from then on
		synctest.Wait()
		v := r.k.status()
		if n := v.WrittenDayBytes/50_000 - 12; n < 9 || n > 11 || v.Stretched != "writes" || v.IntervalSeconds < 55 || v.IntervalSeconds > 65 {
			t.Errorf("%d checkpoints in ten minutes; %q, %v s", n, v.Stretched, v.IntervalSeconds)
		}
		r.kill()
		r.begin(ActRecover, RestoreOptions{})
		if v := r.k.status(); v.WrittenDayBytes != 50_000*int64(len(r.w.generations())) {
			t.Errorf("the next keeper knows of %d bytes", v.WrittenDayBytes)
		}
		none := int64(-1)
		r.granted(api.Request{Op: api.OpSet, Change: &api.PolicyChange{WriteLimitBytes: &none}})
		before := len(r.w.trace("committed"))
		time.Sleep(10500 * time.Millisecond)
		synctest.Wait()
		if n := len(r.w.trace("committed")) - before; n != 10 {
			t.Errorf("without a limit %d are taken in 10 s", n)
		}
	})
}

// Commits that take longer than the interval stretch it: one is under way at
// any time, none is made up for, and status says so.
func TestSlowCommits(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.w.slow.Store(int64(3 * time.Second))
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(60500 * time.Millisecond)
		v := r.k.status()
		if n := len(r.w.trace("committed")); n != 10 || v.Stretched != "slow" || v.IntervalSeconds != 6 {
			t.Errorf("%d generations in a minute; %q, %v s", n, v.Stretched, v.IntervalSeconds)
		}
		r.w.slow.Store(0)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if v := r.k.status(); v.Stretched != "" || v.IntervalSeconds != 1 {
			t.Errorf("later: %q, %v s", v.Stretched, v.IntervalSeconds)
		}
	})
}

func TestLimitsMakeSense(t *testing.T) {
	p, _, err := preparePolicy(api.Policy{}, api.Spec{Argv: []string{"prog"}, Dir: "/"})
	if err != nil || p.WriteLimitBytes != policy.WriteMax {
		t.Errorf("%+v %v", p, err)
	}
	p.KeepSizeBytes = -2
	if err := checkPolicy(p); err == nil || !strings.Contains(err.Error(), "-2") {
		t.Errorf("a size of -2: %v", err)
	}
}

// Where files are read for longer than the program may stand still the interval
// is stretched in proportion, and status names them; until that is over.
func TestPauseBudget(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int64{"a": 4096, "b": 3 << 20} {
		err := os.WriteFile(dir+"/"+name, bytes.Repeat([]byte("x"), int(size)), 0o600)
		if err == nil {
			err = os.Truncate(dir+"/"+name, size+4096) // with a hole it is not kept by content, which is known
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	bubble(t, api.Policy{EverySeconds: 1, Data: []string{dir}, PauseBudgetSeconds: 0.05}, func(r *rig) {
		r.w.slowPut.Store(int64(50 * time.Millisecond)) // for a MiB: b takes three, a one
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(3 * time.Second)
		synctest.Wait()
		v := r.k.status()
		want := []api.SlowFile{{Path: dir + "/b", SizeBytes: 3<<20 + 4096, Seconds: 0.15}, {Path: dir + "/a", SizeBytes: 8192, Seconds: 0.05}}
		if d := cmp.Diff(want, v.SlowFiles); d != "" {
			t.Error(d)
		}
		if v.FilesPauseSeconds != 0.2 || v.IntervalSeconds != 4 || v.Stretched != "pause" || v.Generation != "g1" {
			t.Errorf("%s after 3 s, %v s, %q; %v s for its files", v.Generation, v.IntervalSeconds, v.Stretched, v.FilesPauseSeconds)
		}
		more := 0.3
		r.granted(api.Request{Op: api.OpSet, Change: &api.PolicyChange{PauseBudgetSeconds: &more}})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if v := r.k.status(); v.SlowFiles != nil || v.FilesPauseSeconds != 0.2 || v.IntervalSeconds != 1 || v.Stretched != "" {
			t.Errorf("%v s, %q, %+v", v.IntervalSeconds, v.Stretched, v.SlowFiles)
		}
		r.w.slowPut.Store(0)
		time.Sleep(time.Second) // nothing is under way at the end
	})
}

// TestSlowFiles names large files that this very process has open for writing,
// and no others.
func TestSlowFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skip: needs root: /proc/PID/map_files")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string]int{"read": os.O_RDONLY, "written": os.O_RDWR, "larger": os.O_WRONLY, "log": os.O_WRONLY | os.O_APPEND} {
		size := int64(2 << 30)
		if name == "larger" {
			size *= 2
		}
		err := os.WriteFile(dir+"/"+name, nil, 0o600)
		if err == nil {
			err = os.Truncate(dir+"/"+name, size)
		}
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(dir+"/"+name, flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	if files.Clones(dir + "/read") {
		t.Skip("skip: needs a file system without reflinks below the temporary directory")
	}
	got, err := SlowFiles(engine.Handle{Command: engine.PID(os.Getpid())})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range got {
		if filepath.Dir(f.Path) == dir { // what else the test program has open is small
			names = append(names, filepath.Base(f.Path))
		}
	}
	if d := cmp.Diff([]string{"larger", "written"}, names); d != "" || got[0].Seconds < 0.79 || got[0].Seconds > 0.81 {
		t.Errorf("%s%+v", d, got)
	}
}

// An interval that is auto follows what a checkpoint costs and how often the
// program crashes, and the next keeper knows it.
func TestEveryAuto(t *testing.T) {
	bubble(t, api.Policy{EveryAuto: true, KeepSizeBytes: -1}, func(r *rig) {
		r.w.slow.Store(int64(50 * time.Millisecond)) // beside the program: 5 ms count
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if v := r.k.status(); v.EverySeconds != 1.25 || v.Auto == nil || v.Auto.CheckpointSeconds != 0.005 || math.Round(v.Auto.CrashSeconds) != 86400 {
			t.Errorf("at first: %v %+v", v.EverySeconds, v.Auto)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		v := r.k.status()
		if v.EverySeconds < 29 || v.EverySeconds > 31 || v.IntervalSeconds != v.EverySeconds || v.Auto.CrashSeconds < 86400+3500 {
			t.Errorf("after an hour: %v s, %v s, %+v", v.EverySeconds, v.IntervalSeconds, v.Auto)
		}
		r.kill()
		r.begin(ActRecover, RestoreOptions{})
		synctest.Wait()
		if now := r.k.status(); math.Abs(now.EverySeconds-v.EverySeconds) > 0.2 {
			t.Errorf("the next keeper: %v s", now.EverySeconds)
		}
		for range 20 {
			time.Sleep(time.Minute)
			r.only().exit(11)
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if v := r.k.status(); v.EverySeconds > 15 || v.Auto.CrashSeconds > 1.3*86400/21 {
			t.Errorf("after 20 crashes: %v s, %+v", v.EverySeconds, v.Auto)
		}
		five := 5.0
		r.granted(api.Request{Op: api.OpSet, Change: &api.PolicyChange{EverySeconds: &five}})
		if v := r.k.status(); v.EverySeconds != 5 || v.Auto != nil {
			t.Errorf("%v s, %+v", v.EverySeconds, v.Auto)
		}
	})
}

// After a crash the interval is a quarter, and grows back; status says why.
func TestSoonerAfterACrash(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 8}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(100 * time.Second)
		if v := r.k.status(); v.IntervalSeconds != 8 || v.AfterCrashSeconds != 0 {
			t.Errorf("before: %+v", v)
		}
		r.only().exit(11)
		synctest.Wait()
		before := len(r.w.trace("committed"))
		time.Sleep(2100 * time.Millisecond)
		synctest.Wait()
		if n := len(r.w.trace("committed")) - before; n != 1 {
			t.Errorf("%d in the first quarter", n)
		}
		v := r.k.status()
		if v.IntervalSeconds < 2 || v.IntervalSeconds > 2.1 || v.AfterCrashSeconds != 2 || v.EverySeconds != 8 {
			t.Errorf("right after it: %v s, %v s ago, of %v s", v.IntervalSeconds, v.AfterCrashSeconds, v.EverySeconds)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if v := r.k.status(); v.IntervalSeconds < 4.9 || v.IntervalSeconds > 5.1 {
			t.Errorf("after five minutes: %v s", v.IntervalSeconds)
		}
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if v := r.k.status(); v.IntervalSeconds != 8 || v.AfterCrashSeconds != 0 {
			t.Errorf("after eleven minutes: %v s, %v s ago", v.IntervalSeconds, v.AfterCrashSeconds)
		}
		r.granted(api.Request{Op: api.OpRestore}) // by hand: that was no crash
		time.Sleep(20 * time.Second)
		if v := r.k.status(); v.IntervalSeconds != 8 {
			t.Errorf("after a restore by hand: %v s", v.IntervalSeconds)
		}
	})
}
