package wakepoint_test

import (
	"strings"
	"testing"
	"testing/fstest"
)

const (
	teethDeps = "| `x.org/a` | `internal/sys` | because |\n| `x.org/t` | tests | because |\n"
	teethMod  = "require (\n\tx.org/a v1.0.0\n\tx.org/t v1.0.0\n\tx.org/deep v1.0.0 // indirect\n)\n"
)

// teeth are small trees for each rule: one file, put into a tree that keeps
// every rule, and a part of what the rule then finds wrong ("": nothing).
var teeth = []struct{ rule, path, text, want string }{
	{"parses", "a/a.go", "package a; func", "expected"},
	{"table", "doc/design.md", "```\ninternal/abi:\n```", "is not the one"},
	{"imports", "internal/sys/a.go", src("internal/abi"), ""},
	{"imports", "internal/abi/a.go", src("internal/sys"), "may not import"},
	{"imports", "internal/abi/a_test.go", src("internal/sys"), ""},
	{"imports", "internal/util/a.go", src(), "not in the import table"},
	{"imports", "internal/abi/a.go", `package a; import "` + module + `"`, "may not import"},
	{"imports", "test/a/a_test.go", src("internal/vmtest", "test/b"), ""},
	{"imports", "test/a/a_test.go", src("internal/engine"), "may not import"},
	{"imports", "scripts/a/main.go", src("internal/vmtest"), "may not import"},
	{"imports", "bench/a.go", src("durable"), ""},
	{"imports", "bench/a.go", src("internal/redo"), "may not import"},
	{"imports", "durable/a.go", src("bench"), "may not import"},
	{"never", "internal/store/a_test.go", src("internal/memory"), "internal/store -> internal/memory -> internal/image"},
	{"never", "internal/store/sub/a.go", src("internal/memory"), "internal/image"},
	{"never", "internal/memory/a_test.go", src("internal/store"), ""},
	{"dependencies", "internal/sys/a.go", `package a; import "x.org/a/sub"`, ""},
	{"dependencies", "internal/abi/a.go", `package a; import "x.org/a"`, "does not let"},
	{"dependencies", "internal/abi/a_test.go", `package a; import "x.org/t"`, ""},
	{"dependencies", "internal/sys/a.go", `package a; import "x.org/t"`, "does not let"},
	{"dependencies", "internal/sys/a.go", `package a; import "x.org/deep"`, "is not in doc"},
	{"dependencies", "bench/sub/a.go", `package a; import "x.org/deep"`, ""},
	{"dependencies", "benchmark/a.go", `package a; import "x.org/deep"`, "is not in doc"},
	{"dependencies", "go.mod", "require x.org/a v1.0.0\n", "x.org/t is not in go.mod"},
	{"dependencies", "go.mod", teethMod + "require x.org/n v1.0.0\n", "x.org/n is not in doc"},
	{"dependencies", "doc/dependencies.md", teethDeps + "| `x.org/deep` | | |\n", "no package"},
	{"docs", "internal/abi/a.go", "// Package a is it.\npackage a", ""},
	{"docs", "internal/abi/a.go", "// It is.\npackage a", "no doc comment"},
	{"docs", "cmd/a/main.go", "// Command a is it.\npackage main", ""},
	{"unsafe", "internal/sys/a_unsafe.go", `package a; import "unsafe"`, ""},
	{"unsafe", "internal/sys/a.go", `package a; import "unsafe"`, "unsafe"},
	{"unsafe", "internal/sys/a_unsafe.go", `package a; import "C"`, "C"},
	{"architecture", "internal/sys/a_amd64.go", "//go:build amd64\n\npackage a", ""},
	{"architecture", "internal/abi/amd64.go", "//go:build linux\n\npackage a", ""},
	{"architecture", "internal/abi/a_amd64_test.go", "package a", "suffix amd64"},
	{"architecture", "internal/abi/a.go", "//go:build linux && !(arm64 || x)\n\npackage a", "build tag arm64"},
	{"architecture", "internal/abi/a_linux.s", "", "assembly"},
	{"state", "a/a.go", "package a; func init() {}", "func init"},
	{"state", "a/a.go", "package a; var m = map[int]int{}", "package state: var m"},
	{"state", "a/a.go", "package a; var m = make(chan int)", "package state"},
	{"state", "a/a.go", "package a; import \"sync\"; var mu sync.Mutex", "package state"},
	{"state", "a/a.go", "package a; var p atomic.Pointer[int]", "package state"},
	{"state", "a/a.go", "package a; var m = map[int]int{1: 2}; var _ I = (*T)(nil)", ""},
	{"sizes", "a/a.go", "package a" + strings.Repeat("\n", fileLinesMax), ""},
	{"sizes", "a/a.go", "package a" + strings.Repeat("\n", fileLinesMax+1), "at most 500"},
	{"sizes", "a/a.go", "package a; func (*T[K]) F() {" + strings.Repeat("\n", funcLinesMax) + "}", "T.F: 71 lines"},
	{"words", "README.md", "the net/work/flow of a network, issue 12345, issued 3 times", ""},
	{"words", "README.md", "see /wo" + "rk/main", "means nothing"},
	{"words", "a.sh", "as issu" + "e 7 says", "means nothing"},
}

// TestTeeth shows that every rule bites, and only where it should.
func TestTeeth(t *testing.T) {
	for _, c := range teeth {
		tree := fstest.MapFS{
			"doc/design.md":        {Data: []byte("```\n" + strings.TrimSpace(imports) + "\n```\n")},
			"doc/dependencies.md":  {Data: []byte(teethDeps)},
			"go.mod":               {Data: []byte(teethMod)},
			"bench/go.mod":         {Data: []byte("require x.org/deep v1.0.0\n")},
			"internal/memory/a.go": {Data: []byte("// Package a is one.\n" + src("internal/image"))},
		}
		tree[c.path] = &fstest.MapFile{Data: []byte(c.text)}
		h, err := open(tree)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rules {
			if r.name != c.rule {
				continue
			}
			got := strings.Join(r.check(h), "; ")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("%s: %s holding %q: got %q, want %q", c.rule, c.path, c.text, got, c.want)
			}
		}
	}
	for _, r := range rules {
		if !strings.Contains(" "+teethRules(), " "+r.name+" ") {
			t.Errorf("rule %s was never seen to bite", r.name)
		}
	}
}

// TestExceptions: an exception permits its size and no more, and must be needed.
func TestExceptions(t *testing.T) {
	h := &house{}
	h.add("a/long.go", []byte("package a"+strings.Repeat("\n", 600)))
	h.add("a/short.go", []byte("package a\n"))
	for _, c := range []struct {
		exceptions map[string]int
		want       string
	}{
		{map[string]int{"a/long.go": 600}, ""},
		{map[string]int{"a/long.go": 599}, "600 lines, at most 599"},
		{map[string]int{"a/long.go": 600, "a/short.go": 600}, "a/short.go: no longer needs"},
		{map[string]int{"a/long.go": 600, "a/gone.go:F": 80}, "a/gone.go:F: no longer needs"},
	} {
		got := strings.Join(overLong(h, c.exceptions), "; ")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%v: got %q, want %q", c.exceptions, got, c.want)
		}
	}
}

// teethRules lists the rules that a tree of teeth breaks.
func teethRules() string {
	var names strings.Builder
	for _, c := range teeth {
		if c.want != "" {
			names.WriteString(c.rule + " ")
		}
	}
	return names.String()
}

// src is a file of package a that imports packages of the module.
func src(pkgs ...string) string {
	var b strings.Builder
	b.WriteString("package a\n")
	for _, p := range pkgs {
		b.WriteString("import _ \"" + module + "/" + p + "\"\n")
	}
	return b.String()
}
