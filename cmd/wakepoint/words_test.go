package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/image"
)

func TestParseSignal(t *testing.T) {
	for in, want := range map[string]int{
		"TERM": 15, "SIGTERM": 15, "term": 15, "15": 15, "HUP": 1, "usr1": 10, "KILL": 9,
		"RTMIN": 34, "SIGRTMIN+3": 37, "RTMAX": 64, "RTMAX-1": 63, "64": 64,
		"0": 0, "65": 0, "-1": 0, "": 0, "BOGUS": 0, "RTMIN-1": 0, "RTMIN+99": 0, "RTMAX+1": 0,
	} {
		got, err := parseSignal(in)
		if int(got) != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
}

func TestSimilar(t *testing.T) {
	names := []string{"web", "web-2", "worker", "database", "wed"}
	for in, want := range map[string][]string{
		"wep": {"web", "wed"}, "web-3": {"web", "web-2"}, "databas": {"database"}, "databsae": {"database"},
		"zzz": nil, "": nil,
	} {
		if in == "" {
			continue
		}
		if diff := cmp.Diff(want, similar(in, names)); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
}

func TestAsError(t *testing.T) {
	refused := &engine.RefusedError{Obstacles: []engine.Obstacle{{PID: 7, What: "io_uring fd 7 cannot be saved", Hint: "without it"}}}
	for _, c := range []struct {
		err  error
		code api.Code
		hint string
	}{
		{errors.New("x"), 1, ""},
		{fmt.Errorf("checkpoint: %w", refused), 6, "without it"},
		{about("a", api.Errorf(api.CodeLocked, "wait", "locked")), 11, "wait"},
		{fmt.Errorf("open: %w", syscall.EROFS), 1, "that file system is read-only: remount it, or name another place with --store"},
		{fmt.Errorf("restore: %w", &image.NewerError{Err: errors.New("unknown field")}), 1, "use the wakepoint that saved it, or a later one"},
		{fmt.Errorf("open: %w", syscall.EACCES), 1, "try it as root, or choose another place with --store"},
	} {
		e := asError(c.err)
		if e.Code != c.code || e.Hint != c.hint || e.Message != c.err.Error() {
			t.Errorf("%v: code %d, hint %q, message %q", c.err, e.Code, e.Hint, e.Message)
		}
	}
}

// TestAtStore: a hint is about the store that the command was about.
func TestAtStore(t *testing.T) {
	const hint = "see `wakepoint log web`, `ps -ef`, `wakepoint verify` and `wakepoint ps --help`"
	for store, want := range map[string]string{
		"":           hint,
		"/usual":     hint,
		"/backup/it": "see `wakepoint log --store /backup/it web`, `ps -ef`, `wakepoint verify --store /backup/it` and `wakepoint ps --help`",
		"my store":   "see `wakepoint log --store 'my store' web`, `ps -ef`, `wakepoint verify --store 'my store'` and `wakepoint ps --help`",
	} {
		a := newApp(nil, nil, nil, []string{"WAKEPOINT_STORE=/usual"})
		a.storeDir = store
		if got := a.atStore(hint); got != want {
			t.Errorf("%q: %s", store, got)
		}
	}
}

func TestNamed(t *testing.T) {
	names := func() []string { return []string{"web", "mail"} }
	missing := api.Errorf(api.CodeNotFound, "", "no such workload")
	e := asError(about("status", (&app{}).named("wep", missing, names)))
	if e.Message != "status: wep: no such workload" || e.Hint != "did you mean `web`?" || e.Code != 4 {
		t.Errorf("%+v", e)
	}
	e = asError((&app{}).named("zzz", missing, names))
	if e.Hint != "`wakepoint ps` lists the workloads" {
		t.Errorf("%+v", e)
	}
}

func TestHasWord(t *testing.T) {
	for text, want := range map[string]bool{
		`no workload "r"`: true, "r does not run": true, "r: gone": true, "restore": false, "open /s/r/log: x": false, "r-2 is": false, "a@r": true,
	} {
		if hasWord(text, "r") != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

func TestCommandText(t *testing.T) {
	got := commandText([]string{"sh", "-c", "echo 1\necho 2", "", "it's", "--x=/a_b.c:d,e@f%g+h"})
	if want := `sh -c 'echo 1\necho 2' '' "it's" --x=/a_b.c:d,e@f%g+h`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestSomeFailed(t *testing.T) {
	err := func(code api.Code) error { return api.Errorf(code, "", "x") }
	null, e := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if e != nil {
		t.Fatal(e)
	}
	defer null.Close()
	a := &app{err: null}
	for _, c := range []struct {
		failed []error
		of     int
		want   int
	}{
		{nil, 3, 0}, {[]error{err(4)}, 1, 4}, {[]error{err(4)}, 2, 3}, {[]error{err(4), err(1)}, 2, 4},
	} {
		if got := a.report(a.someFailed(c.failed, c.of)); got != c.want {
			t.Errorf("%d of %d failed: code %d, want %d", len(c.failed), c.of, got, c.want)
		}
	}
}

func TestInterval(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"1s": time.Second, "500ms": 500 * time.Millisecond, "2m": 2 * time.Minute, "5": 5 * time.Second, "0.5": 500 * time.Millisecond,
		"0": 0, "-1s": 0, "1ms": 0, "soon": 0, "": 0,
	} {
		var i interval
		err := i.Set(in)
		if time.Duration(i) != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %s, %v; want %s", in, time.Duration(i), err, want)
		}
	}
}

func TestTexts(t *testing.T) {
	for s, want := range map[float64]string{
		0: "0 s", 0.0000421: "42 µs", 0.0123: "12.3 ms", 0.8: "800 ms", 1: "1 s", 12.34: "12.3 s", 3600: "1h0m0s", 200000: "2 days",
	} {
		if got := secondsText(s); got != want {
			t.Errorf("%g s: %q, want %q", s, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 64 << 20: "64.0 MiB", 1 << 50: "1.0 PiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestDefaultPaths(t *testing.T) {
	for _, c := range []struct {
		uid        int
		env        []string
		store, key string
	}{
		{0, nil, "/var/lib/wakepoint", "/etc/wakepoint/key"},
		{0, []string{"WAKEPOINT_STORE=/s", "WAKEPOINT_KEY=/k"}, "/s", "/k"},
		{1, []string{"HOME=/h"}, "/h/.local/state/wakepoint", "/h/.config/wakepoint/key"},
		{1, []string{"HOME=/h", "XDG_STATE_HOME=/st", "XDG_CONFIG_HOME=/co"}, "/st/wakepoint", "/co/wakepoint/key"},
	} {
		a := newApp(nil, nil, nil, c.env)
		store, key := a.defaultPaths(c.uid)
		if key = a.keyPath(key); store != c.store || key != c.key {
			t.Errorf("uid %d, %q: %s and %s", c.uid, c.env, store, key)
		}
	}
}

// TestCredential: a service's key is used where nothing else is said, and what
// is written lies elsewhere.
func TestCredential(t *testing.T) {
	dir := t.TempDir()
	env := []string{"CREDENTIALS_DIRECTORY=" + dir}
	if key := newApp(nil, nil, nil, env).keyPath("/usual"); key != "/usual" {
		t.Errorf("without a credential: %s", key)
	}
	file := filepath.Join(dir, credentialName)
	if err := os.WriteFile(file, nil, 0o400); err != nil {
		t.Fatal(err)
	}
	if key := newApp(nil, nil, nil, append(env, "WAKEPOINT_KEY=/k")).keyPath("/usual"); key != "/k" {
		t.Errorf("another one is named: %s", key)
	}
	a := newApp(nil, nil, nil, append(env, "HOME=/h"))
	if key := a.keyPath("/usual"); key != file {
		t.Errorf("with a credential: %s", key)
	}
	for key, lent := range map[string]bool{file: true, "/run/credentials/x.service/wakepoint.key": true, "/etc/wakepoint/key": false, "/run/key": false} {
		a.keyFile = key
		s, err := a.site()
		if err != nil || (s.Beside != "") != lent {
			t.Errorf("%s: %+v, %v", key, s, err)
		}
	}
}

func TestRights(t *testing.T) {
	if missing := missingRights(1<<21 | 1<<19 | 1<<23 | 1<<25); missing != nil {
		t.Errorf("missing %q", missing)
	}
	missing := missingRights(0)
	for uid, hint := range map[int]string{
		0: "--cap-add SYS_ADMIN --cap-add SYS_PTRACE --cap-add SYS_NICE --cap-add SYS_TIME", 1000: "run it as root",
	} {
		e := api.AsError(rightsError(missing, uid))
		if !strings.Contains(e.Message, "CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYS_NICE and CAP_SYS_TIME") || !strings.Contains(e.Hint, hint) {
			t.Errorf("uid %d: %+v", uid, e)
		}
	}
}

func TestParseStat(t *testing.T) {
	p, err := parseStat("12 (a ) b) S 3 12 12 0 -1 2129984 0 0\n")
	if err != nil || p.state != 'S' || p.parent != 3 || p.flags&kernelThread == 0 {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []string{"", ")", "1 (x) S", "1 (x) S a 1 1 1 1 1", "1 (x) S 1 1 1 1 1 x"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("12 (a ) b) S 3 12 12 0 -1 2129984 0 0\n")
	f.Fuzz(func(t *testing.T, in string) { parseStat(in) })
}

func TestUntouchable(t *testing.T) {
	for want, p := range map[string]process{
		"":                    {pid: 5, tgid: 5, state: 'S', args: []string{"sleep", "1"}},
		"kernel thread":       {pid: 2, tgid: 2, state: 'S', flags: kernelThread},
		"has ended":           {pid: 5, tgid: 5, state: 'Z'},
		"a thread of pid 4":   {pid: 5, tgid: 4, state: 'S'},
		"init":                {pid: 1, tgid: 1, state: 'S'},
		"this very command":   {pid: 9, tgid: 9, state: 'R'},
		"part of wakepoint":   {pid: 5, tgid: 5, state: 'S', args: []string{initName}},
		"of wakepoint itself": {pid: 5, tgid: 5, state: 'S', args: []string{"/usr/bin/wakepoint", guardName}},
	} {
		why, _ := p.untouchable(9)
		if !strings.Contains(why, want) || (want == "") != (why == "") {
			t.Errorf("%+v: %q, want %q", p, why, want)
		}
	}
}

func TestDemoWords(t *testing.T) {
	w := demoWords{Count: 5000, At: 9e9, Wrong: 1}
	w.Pauses[3] = demoPause{Count: 4000, From: 7e9, To: 8e9}
	got, err := decodeDemoWords(w.encode())
	if err != nil || got != w {
		t.Fatalf("%+v, %v", got, err)
	}
	if p, ok := got.across(time.Unix(7, 5)); !ok || p.Count != 4000 {
		t.Errorf("%+v, %v", p, ok)
	}
	if _, ok := got.across(time.Unix(8, 0)); ok {
		t.Error("a pause has its end in it")
	}
	torn := w.encode()
	torn[2]++
	if _, err := decodeDemoWords(torn); err == nil {
		t.Error("torn words were taken")
	}
	table := make([]demoEntry, demoTable)
	for c := int64(1); c <= demoTable+10; c++ {
		table[c%demoTable] = demoEntry{c, mix(c)}
	}
	if n := wrongEntries(table, demoTable+10); n != 0 {
		t.Errorf("%d wrong entries in a good table", n)
	}
	table[77].mixed++
	if n := wrongEntries(table, demoTable+10); n != 1 {
		t.Errorf("%d wrong entries, want 1", n)
	}
}

func FuzzDecodeDemoWords(f *testing.F) {
	w := demoWords{Count: 1}
	f.Add(w.encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		if w, err := decodeDemoWords(p); err == nil && !bytes.Equal(w.encode(), p) {
			t.Fatal("not what was read")
		}
	})
}

// TestFollow: a file that grows, is moved away and is cut.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "output.log")
	read, write := io.Pipe()
	ended, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- follow(path, write, ended); write.Close() }()
	seen := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(read, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v; want %q", got, err, want)
		}
	}
	put := func(flags int, text string) {
		t.Helper()
		f, err := os.OpenFile(path, flags|os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	put(os.O_APPEND, "one\n")
	seen("one\n")
	put(os.O_APPEND, "two\n")
	seen("two\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	put(os.O_APPEND, "three\n")
	seen("three\n")
	put(os.O_TRUNC, "4\n")
	seen("4\n")
	put(os.O_APPEND, "last words")
	close(ended)
	rest, err := io.ReadAll(read)
	if err != nil || string(rest) != "last words" {
		t.Errorf("%q, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
