package notify

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Words{
		"":                                  {},
		"READY=1":                           {Ready: true},
		"READY=1\n":                         {Ready: true},
		"READY=0\nSTOPPING=\nWATCHDOG=2\n":  {},
		"STATUS=a=b\nSTOPPING=1":            {Status: "a=b", Told: true, Stopping: true},
		"STATUS=":                           {Told: true},
		"WATCHDOG=1\nWATCHDOG_USEC=1500000": {Well: true, Watchdog: 1500 * time.Millisecond},
		"WATCHDOG=trigger":                  {Ill: true},
		"WATCHDOG_USEC=0":                   {},
		"WATCHDOG_USEC=-1":                  {},
		"WATCHDOG_USEC=99999999999999999":   {},
		"WAKEPOINT=checkpoint":              {Checkpoint: true},
		"WAKEPOINT=hold":                    {Hold: Wait},
		"WAKEPOINT=hold\nWAKEPOINT=go":      {Hold: Go},
		"WAKEPOINT=durable\nMAINPID=1":      {Durable: true},
		"wakepoint=durable":                 {},
		"WAKEPOINT=durable ":                {},
		"\x00WAKEPOINT=durable":             {},
		"STATUS=\x1b[31m\xff\tred":          {Status: "?[31m??red", Told: true},
	} {
		if d := cmp.Diff(want, Parse([]byte(text))); d != "" {
			t.Errorf("%q: %s", text, d)
		}
	}
}

func TestThen(t *testing.T) {
	a := Parse([]byte("STATUS=old\nREADY=1\nWAKEPOINT=hold\nWATCHDOG_USEC=1000000"))
	b := Parse([]byte("STATUS=\nWAKEPOINT=go\nWATCHDOG=1"))
	b.At = time.Unix(7, 0)
	want := Words{Ready: true, Well: true, Told: true, Hold: Go, Watchdog: time.Second, At: time.Unix(7, 0)}
	if d := cmp.Diff(want, a.Then(b)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(a, a.Then(Words{})); d != "" {
		t.Error(d)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"READY=1\nSTATUS=x", "WATCHDOG_USEC=18446744073709551615", "STATUS=\xff\x00\n\n=\n", strings.Repeat("STATUS=a\n", 400)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		w := Parse(p)
		if len(w.Status) > 3*statusMax || !utf8.ValidString(w.Status) || strings.ContainsAny(w.Status, "\n\x1b\x00") || w.Watchdog < 0 || w.Watchdog > watchdogMax {
			t.Errorf("%q: %+v", p, w)
		}
	})
}
