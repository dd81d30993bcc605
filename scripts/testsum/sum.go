package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"sort"
	"strings"
)

// event is one line of go test -json; see "go doc test2json".
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output and build-fail
	Test       string
	Elapsed    float64 // seconds
	Output     string
}

// test is one test or subtest of a package.
type test struct {
	output   strings.Builder
	parent   bool   // has subtests, and is not counted unless it fails by itself
	childBad bool   // a subtest failed
	end      string // pass, fail, skip; "" while it runs
}

// pkg is a package under test.
type pkg struct {
	output strings.Builder // of no test
	tests  map[string]*test
	order  []string
}

// skip is a test that did not run.
type skip struct{ pkg, test, reason string }

// allowed is a line of the list of allowed skips.
type allowed struct{ pkg, test string }

// sum is what is known of all tests so far.
type sum struct {
	w              io.Writer
	pkgs           map[string]*pkg
	passed, failed int
	skips          []skip
}

func newSum(w io.Writer) *sum { return &sum{w: w, pkgs: map[string]*pkg{}} }

// String is the closing line.
func (s *sum) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", s.passed, s.failed, len(s.skips))
}

// read takes in events until the end. Lines that are none are printed: they
// come from the go command itself.
func (s *sum) read(r io.Reader) error {
	br := bufio.NewReader(r)
	for {
		line, err := br.ReadBytes('\n')
		var e event
		switch {
		case len(line) == 0:
		case json.Unmarshal(line, &e) != nil:
			s.w.Write(line)
		default:
			s.event(e)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// event takes in one event.
func (s *sum) event(e event) {
	if e.Action == "build-output" {
		io.WriteString(s.w, e.Output)
		return
	}
	if e.Package == "" {
		return
	}
	p := s.pkgs[e.Package]
	if p == nil {
		p = &pkg{tests: map[string]*test{}}
		s.pkgs[e.Package] = p
	}
	if e.Test == "" {
		switch e.Action {
		case "output":
			p.output.WriteString(e.Output)
		case "pass", "fail", "skip":
			s.endPackage(e, p)
			delete(s.pkgs, e.Package)
		}
		return
	}
	t := p.test(e.Test)
	switch e.Action {
	case "output":
		t.output.WriteString(e.Output)
	case "pass", "fail", "skip":
		t.end = e.Action
	}
}

// test returns the test of that name, and makes its parents known as such.
func (p *pkg) test(name string) *test {
	if t := p.tests[name]; t != nil {
		return t
	}
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		p.test(name[:i]).parent = true
	}
	t := &test{}
	p.tests[name] = t
	p.order = append(p.order, name)
	return t
}

// endPackage counts the tests of a package that ended. A test that has no end
// was running when the package died, and failed.
func (s *sum) endPackage(e event, p *pkg) {
	bad := 0
	for i := len(p.order) - 1; i >= 0; i-- { // subtests before their parents
		name := p.order[i]
		t := p.tests[name]
		failed := t.end == "fail" || t.end == "" && e.Action == "fail"
		if failed {
			for up := name; strings.Contains(up, "/"); {
				up = up[:strings.LastIndexByte(up, '/')]
				p.tests[up].childBad = true
			}
		}
		switch {
		case failed && t.childBad:
		case failed:
			bad++
		case t.parent:
		case t.end == "skip":
			s.skips = append(s.skips, skip{e.Package, name, reason(t.output.String())})
		default:
			s.passed++
		}
	}
	if e.Action == "fail" && bad == 0 {
		bad = 1 // did not build, or died outside of its tests
	}
	s.failed += bad
	if bad > 0 {
		s.printFailed(e, p)
	} else if len(p.order) > 0 {
		fmt.Fprintf(s.w, "ok    %s  %.1fs\n", e.Package, e.Elapsed)
	}
}

func (s *sum) printFailed(e event, p *pkg) {
	for _, name := range p.order {
		if t := p.tests[name]; t.end != "pass" && t.end != "skip" {
			io.WriteString(s.w, t.output.String())
		}
	}
	io.WriteString(s.w, p.output.String())
	fmt.Fprintf(s.w, "FAIL  %s  %.1fs\n", e.Package, e.Elapsed)
}

// position is what t.Skip puts before its words.
var position = regexp.MustCompile(`^\s*\S+\.go:\d+: `)

// reason finds in the output of a skipped test why it was skipped.
func reason(output string) string {
	var words []string
	for line := range strings.Lines(output) {
		if strings.HasPrefix(line, "=== ") || strings.HasPrefix(strings.TrimSpace(line), "--- ") {
			continue
		}
		if line = strings.TrimSpace(position.ReplaceAllString(line, "")); line != "" {
			words = append(words, line)
		}
	}
	if len(words) == 0 {
		return "no reason given"
	}
	return words[len(words)-1]
}

// close prints the skips and the closing line. It reports whether at least one
// test ran, none failed, none is still running, and with strict, none skipped
// that is not in the list.
func (s *sum) close(list []allowed, strict bool) bool {
	for name, p := range s.pkgs {
		s.endPackage(event{Action: "fail", Package: name}, p)
	}
	sort.Slice(s.skips, func(i, j int) bool {
		a, b := s.skips[i], s.skips[j]
		return a.pkg < b.pkg || a.pkg == b.pkg && a.test < b.test
	})
	fmt.Fprintf(s.w, "skipped: %d of %d\n", len(s.skips), s.passed+s.failed+len(s.skips))
	refused := 0
	for _, k := range s.skips {
		note := ""
		if strict && !permits(list, k) {
			note = "NOT ALLOWED HERE: "
			refused++
		}
		fmt.Fprintf(s.w, "  %s%s %s: %s\n", note, k.pkg, k.test, k.reason)
	}
	if refused > 0 {
		fmt.Fprintf(s.w, "%d skipped that scripts/allowed-skips.txt does not allow\n", refused)
	}
	fmt.Fprintln(s.w, s)
	return s.failed == 0 && s.passed > 0 && refused == 0
}

// parseAllowed reads lines of "PACKAGE TEST REASON"; # begins a comment.
func parseAllowed(text string) ([]allowed, error) {
	var list []allowed
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 3 {
			return nil, fmt.Errorf("%q is not PACKAGE TEST REASON", strings.TrimSpace(line))
		}
		if _, err := path.Match(f[1], ""); err != nil {
			return nil, fmt.Errorf("%q: %w", f[1], err)
		}
		list = append(list, allowed{pkg: f[0], test: f[1]})
	}
	return list, nil
}

func permits(list []allowed, k skip) bool {
	for _, a := range list {
		match, _ := path.Match(a.test, k.test) // checked by parseAllowed
		if match && (k.pkg == a.pkg || strings.HasSuffix(k.pkg, "/"+a.pkg)) {
			return true
		}
	}
	return false
}
