package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/keeper"
)

// captured returns what f writes to the streams that it is given.
func captured(t *testing.T, f func(a *app)) (out, err string) {
	t.Helper()
	open := func() *os.File {
		file, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	a := newApp(nil, open(), open(), nil)
	f(a)
	text := func(file *os.File) string {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(file)
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
		return string(p)
	}
	return text(a.out), text(a.err)
}

// A program that ended before its first generation ends `run -d` as it would
// have ended `run`.
func TestLaunchedAndEnded(t *testing.T) {
	for _, c := range []struct {
		status api.Status
		say    string
	}{
		{api.Status{Ended: true}, "web ended with code 0"},
		{api.Status{Ended: true, ExitCode: 3}, "web ended with code 3"},
		{api.Status{Ended: true, ExitCode: 139, ExitSignal: "SIGSEGV"}, "web ended with SIGSEGV"},
		{api.Status{}, "web ended with an end that nobody saw"},
	} {
		for _, detach := range []bool{true, false} {
			status := c.status
			status.Row = api.Row{Name: "web", State: api.Failed}
			out, say := captured(t, func(a *app) {
				code := a.report(a.launched(keeper.Outcome{Name: "web", Status: status}, nil, detach))
				if detach && code != c.status.ExitCode || !detach && code != 0 {
					t.Errorf("%q: exit code %d", c.say, code)
				}
			})
			want := "wakepoint: " + c.say + " before its first generation\n"
			if detach && (out != "web\n" || say != want) || !detach && out+say != "" {
				t.Errorf("%q and %q, want %q", out, say, want)
			}
		}
	}
}

// A program that runs has its name printed by `run -d`, protected or not.
func TestLaunchedWithoutProtection(t *testing.T) {
	full := api.Errorf(api.CodeFailed, "make room", "no space left on device")
	for _, c := range []struct {
		name     string
		err      error
		state    api.State
		code     int
		out, say string
	}{
		{"committed", nil, api.Running, 0, "web\n", ""},
		{"no room", full, api.Running, 1, "web\n", "wakepoint: web runs without protection: no space left on device\nhint: make room\n"},
		{"refused", api.Errorf(api.CodeRefused, "do without", "io_uring"), api.Running, 6, "web\n", "wakepoint: web runs without protection: io_uring\nhint: do without\n"},
		{"nothing runs", full, api.Failed, 1, "", "wakepoint: no space left on device\nhint: make room\n"},
	} {
		out, say := captured(t, func(a *app) {
			status := api.Status{Row: api.Row{Name: "web", State: c.state, Generation: "g1"}}
			if code := a.report(a.launched(keeper.Outcome{Name: "web", Status: status}, c.err, true)); code != c.code {
				t.Errorf("%s: exit code %d, want %d", c.name, code, c.code)
			}
		})
		if out != c.out || !strings.HasSuffix(say, c.say) || c.say == "" && say != "" {
			t.Errorf("%s: %q and %q", c.name, out, say)
		}
	}
}
