package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const events = `
{"Action":"start","Package":"m/a"}
{"Action":"run","Package":"m/a","Test":"TestPass"}
{"Action":"output","Package":"m/a","Test":"TestPass","Output":"noise\n"}
{"Action":"pass","Package":"m/a","Test":"TestPass","Elapsed":0.1}
{"Action":"run","Package":"m/a","Test":"TestTree"}
{"Action":"run","Package":"m/a","Test":"TestTree/one"}
{"Action":"pass","Package":"m/a","Test":"TestTree/one"}
{"Action":"run","Package":"m/a","Test":"TestTree/two"}
{"Action":"output","Package":"m/a","Test":"TestTree/two","Output":"=== RUN   TestTree/two\n"}
{"Action":"output","Package":"m/a","Test":"TestTree/two","Output":"    a_test.go:7: needs root\n"}
{"Action":"output","Package":"m/a","Test":"TestTree/two","Output":"    --- SKIP: TestTree/two (0.00s)\n"}
{"Action":"skip","Package":"m/a","Test":"TestTree/two"}
{"Action":"pass","Package":"m/a","Test":"TestTree"}
{"Action":"pass","Package":"m/a","Elapsed":0.26}
{"Action":"start","Package":"m/none"}
{"Action":"skip","Package":"m/none","Elapsed":0}
`

const bad = `
{"ImportPath":"m/b [m/b.test]","Action":"build-output","Output":"b.go:1: no\n"}
{"Action":"start","Package":"m/b"}
{"Action":"output","Package":"m/b","Output":"FAIL m/b [build failed]\n"}
{"Action":"fail","Package":"m/b","FailedBuild":"m/b [m/b.test]"}
go: a word of its own
{"Action":"run","Package":"m/c","Test":"TestTree"}
{"Action":"run","Package":"m/c","Test":"TestTree/one"}
{"Action":"output","Package":"m/c","Test":"TestTree/one","Output":"it is wrong\n"}
{"Action":"fail","Package":"m/c","Test":"TestTree/one"}
{"Action":"fail","Package":"m/c","Test":"TestTree"}
{"Action":"run","Package":"m/c","Test":"TestPanics"}
{"Action":"output","Package":"m/c","Test":"TestPanics","Output":"panic: oh\n"}
{"Action":"fail","Package":"m/c","Elapsed":1}
`

// A package whose events stop in the middle.
const cut = `
{"Action":"run","Package":"m/d","Test":"TestCut"}
`

func TestSum(t *testing.T) {
	for _, c := range []struct {
		name, events, allowed, want string
		strict, ok                  bool
	}{
		{name: "good", events: events, ok: true, want: `ok    m/a  0.3s
skipped: 1 of 3
  m/a TestTree/two: needs root
2 passed, 0 failed, 1 skipped
`},
		{name: "strict", events: events, strict: true, allowed: "a TestTree/one because", want: `ok    m/a  0.3s
skipped: 1 of 3
  NOT ALLOWED HERE: m/a TestTree/two: needs root
1 skipped that scripts/allowed-skips.txt does not allow
2 passed, 0 failed, 1 skipped
`},
		{name: "allowed", events: events, strict: true, ok: true, allowed: "# why\na TestTree/* no root", want: `ok    m/a  0.3s
skipped: 1 of 3
  m/a TestTree/two: needs root
2 passed, 0 failed, 1 skipped
`},
		{name: "bad", events: bad, want: `b.go:1: no
FAIL m/b [build failed]
FAIL  m/b  0.0s
go: a word of its own
it is wrong
panic: oh
FAIL  m/c  1.0s
skipped: 0 of 3
0 passed, 3 failed, 0 skipped
`},
		{name: "cut", events: cut, want: `FAIL  m/d  0.0s
skipped: 0 of 1
0 passed, 1 failed, 0 skipped
`},
		{name: "nothing", want: "skipped: 0 of 0\n0 passed, 0 failed, 0 skipped\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := parseAllowed(c.allowed)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			s := newSum(&out)
			if err := s.read(strings.NewReader(strings.TrimPrefix(c.events, "\n"))); err != nil {
				t.Fatal(err)
			}
			if ok := s.close(list, c.strict); ok != c.ok {
				t.Errorf("ok = %v", ok)
			}
			if diff := cmp.Diff(c.want, out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseAllowedRefuses(t *testing.T) {
	for _, text := range []string{"a TestX", "a Test[ because"} {
		if _, err := parseAllowed(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
