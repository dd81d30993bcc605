// Package wakepoint_test holds the rules of the house and checks the source
// against them: who may import whom, what must be documented, where unsafe and
// architectures live, how big things may grow. The rules are explained in
// doc/design.md and doc/hacking.md; this file is what makes them true.
//
// Every rule is a function from the source tree to what is wrong with it, so
// that TestTeeth can feed it trees that are.
package wakepoint_test

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
)

const module = "github.com/wakepoint/wakepoint"

// imports is the table of doc/design.md, which holds the same text: a package
// may import only what stands behind its colon, and only from above. Change it
// in the commit that needs it, in both places, and say why.
const imports = `
internal/abi:
internal/sys:               internal/abi
internal/disk:
internal/disk/crashfs:      internal/disk
internal/policy:
internal/api:
internal/health:
internal/notify:
internal/pocket:
internal/service:
internal/object:            internal/disk
internal/object/s3:         internal/object
internal/object/objecttest: internal/object
internal/seal:              internal/disk
internal/store:             internal/disk internal/object internal/seal
internal/bundle:
internal/redo:              internal/disk
durable:                    internal/disk internal/redo
durable/session:            durable
durable/durabletest:        durable internal/disk internal/disk/crashfs
internal/procfs:            internal/abi
internal/fanotify:          internal/procfs
internal/files:             internal/disk internal/fanotify internal/procfs internal/sys
internal/image:             internal/abi
internal/tape:              internal/abi
internal/setting:           internal/abi internal/image internal/procfs internal/tape
internal/tracee:            internal/abi internal/sys internal/tape
internal/memory:            internal/abi internal/sys internal/procfs internal/image internal/tape internal/tracee
internal/namespace:         internal/abi internal/fanotify
internal/sockdiag:
internal/sockopt:           internal/image internal/sys
internal/description:       internal/image internal/sys
internal/engine:            internal/abi internal/sys internal/procfs internal/fanotify internal/image internal/tape internal/tracee internal/memory internal/namespace internal/sockdiag internal/sockopt internal/description internal/setting
internal/hint:              internal/api internal/disk internal/engine internal/seal internal/store
internal/machine:           internal/abi internal/sys
internal/screen:
internal/terminal:          internal/screen internal/sys
internal/web:               internal/api
internal/generation:        internal/engine internal/files internal/image internal/procfs internal/store
internal/sandbox:           internal/procfs internal/sys
internal/rehearsal:         internal/api internal/engine internal/files internal/generation internal/health internal/policy internal/sandbox
internal/keeper:            internal/api internal/bundle internal/disk internal/engine internal/files internal/generation internal/health internal/hint internal/image internal/notify internal/object internal/pocket internal/policy internal/procfs internal/redo internal/rehearsal internal/seal internal/service internal/store internal/terminal
internal/vmtest:
internal/vmtest/guest:      internal/vmtest
packaging:
cmd/wakepoint:              durable internal/api internal/disk internal/engine internal/image internal/keeper internal/machine internal/object internal/object/s3 internal/service internal/store internal/terminal internal/web packaging
`

// never are the pairs that may not meet at any distance, tests included. Each
// name stands for the package and all below it.
var never = [][2]string{
	{"durable", "internal/sys"},
	{"internal/store", "internal/image"},
	{"internal/engine", "internal/store"},
	{"internal/policy", "internal/disk"},
}

// blackBox are the folders whose packages see the product from outside: they
// import nothing of it, beyond each other, but what is named here.
var blackBox = map[string][]string{
	"test":     {"internal/vmtest"},
	"bench":    {"durable"},
	"examples": {"durable"},
	"scripts":  nil,
}

// Limits of size. Package limits count what is not a test.
const (
	fileLinesMax    = 500
	funcLinesMax    = 70
	packageFilesMax = 40
	packageLinesMax = 8000
)

// tooLong are the exceptions to fileLinesMax ("dir/file.go") and funcLinesMax
// ("dir/file.go:Func" or "dir/file.go:Type.Func"), with the size at which they
// stand. The list may only shrink: no entry is added or raised, and one that
// is no longer needed is an error.
var tooLong = map[string]int{}

// archRooms may hold files that are built for one architecture only.
var archRooms = []string{"internal/sys", "internal/tracee"}

// foreign matches what names the place where the source was written rather
// than the product: it means nothing to a reader. Spelled so that this file
// does not match.
var foreign = regexp.MustCompile(`(?:^|[^\w.])/wor[k]/\w|\.\./share[d]/|\bissue [1-9][0-9]?\b`)

// rule finds what is wrong with a tree.
type rule struct {
	name  string
	check func(*house) []string
}

var rules = []rule{
	{"parses", func(h *house) []string { return h.broken }},
	{"table", checkTable},
	{"imports", checkImports},
	{"never", checkNever},
	{"dependencies", checkDependencies},
	{"docs", checkDocs},
	{"unsafe", checkUnsafe},
	{"architecture", checkArchitecture},
	{"state", checkState},
	{"sizes", checkSizes},
	{"words", checkWords},
}

func TestHouse(t *testing.T) {
	h, err := open(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, wrong := range r.check(h) {
				t.Error(wrong)
			}
		})
	}
}

// parseTable reads the import table and what is wrong with it.
func parseTable(text string) (table map[string][]string, wrong []string) {
	table = map[string][]string{}
	for line := range strings.Lines(strings.TrimSpace(text)) {
		pkg, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		for _, imp := range strings.Fields(rest) {
			if _, above := table[imp]; !above {
				wrong = append(wrong, fmt.Sprintf("import table: %s stands above %s, which it imports", pkg, imp))
			}
		}
		table[pkg] = strings.Fields(rest)
	}
	return table, wrong
}

// checkTable: the table of this file is the one of doc/design.md and in order.
func checkTable(h *house) []string {
	_, wrong := parseTable(imports)
	if !bytes.Contains(h.texts["doc/design.md"], []byte("```\n"+strings.TrimSpace(imports)+"\n```")) {
		wrong = append(wrong, "doc/design.md: its import table is not the one of house_test.go")
	}
	return wrong
}

// checkImports holds the import table, for everything that is not a test, and
// the walls of the black boxes, tests included.
func checkImports(h *house) []string {
	table, _ := parseTable(imports)
	var wrong []string
	for _, s := range h.files {
		allowed, listed := table[s.pkg]
		boxed := false
		for box, more := range blackBox {
			if within(s.pkg, box) {
				allowed, boxed = append([]string{box}, more...), true
			}
		}
		if !boxed && s.test {
			continue
		}
		if !boxed && !listed {
			wrong = append(wrong, fmt.Sprintf("%s: package %s is not in the import table", s.path, s.pkg))
			continue
		}
		for _, imp := range s.imports() {
			in := ours(imp)
			ok := in == "" || slices.Contains(allowed, in) || boxed && withinAny(in, allowed)
			if !ok || imp == module {
				wrong = append(wrong, fmt.Sprintf("%s: may not import %s", s.path, imp))
			}
		}
	}
	return wrong
}

// checkNever follows the imports of the product from every package of the left
// side, and from its tests, and finds no way to the right side.
func checkNever(h *house) []string {
	product, tests := map[string][]string{}, map[string][]string{}
	for _, s := range h.files {
		graph := product
		if s.test {
			graph = tests
		}
		for _, imp := range s.imports() {
			if in := ours(imp); in != "" {
				graph[s.pkg] = append(graph[s.pkg], in)
			}
		}
	}
	var wrong []string
	for _, pair := range never {
		for _, graph := range []map[string][]string{product, tests} {
			for pkg := range graph {
				if !within(pkg, pair[0]) {
					continue
				}
				if way := findWay(product, graph[pkg], pair[1]); way != nil {
					wrong = append(wrong, fmt.Sprintf("%s reaches %s: %s", pair[0], pair[1],
						strings.Join(append([]string{pkg}, way...), " -> ")))
				}
			}
		}
	}
	sort.Strings(wrong)
	return wrong
}

// findWay returns the packages from one of the starts to a package within to.
func findWay(graph map[string][]string, starts []string, to string) []string {
	seen := map[string]bool{}
	var walk func(pkg string) []string
	walk = func(pkg string) []string {
		if seen[pkg] {
			return nil
		}
		seen[pkg] = true
		if within(pkg, to) {
			return []string{pkg}
		}
		for _, next := range graph[pkg] {
			if way := walk(next); way != nil {
				return append([]string{pkg}, way...)
			}
		}
		return nil
	}
	for _, start := range starts {
		if way := walk(start); way != nil {
			return way
		}
	}
	return nil
}

// dependency is a row of doc/dependencies.md.
type dependency struct {
	module   string
	packages []string // that may import it; tests always may
}

// row is | `module` | `package` `package`, or "tests" | reason |
var row = regexp.MustCompile("(?m)^\\| *`([^`]+)` *\\|([^|]*)\\|([^|]*)\\|")
var quoted = regexp.MustCompile("`([^`]+)`")

func parseDependencies(doc []byte) (deps []dependency, wrong []string) {
	for _, m := range row.FindAllSubmatch(doc, -1) {
		d := dependency{module: string(m[1])}
		for _, q := range quoted.FindAllSubmatch(m[2], -1) {
			d.packages = append(d.packages, string(q[1]))
		}
		if len(bytes.TrimSpace(m[2])) == 0 || len(bytes.TrimSpace(m[3])) == 0 {
			wrong = append(wrong, fmt.Sprintf("doc/dependencies.md: %s has no package or no reason", d.module))
		}
		deps = append(deps, d)
	}
	return deps, wrong
}

// required lists the modules of go.mod; true stands for a direct one.
func required(gomod []byte) map[string]bool {
	mods, inside := map[string]bool{}, false
	for line := range strings.Lines(string(gomod)) {
		f := strings.Fields(line)
		switch {
		case len(f) >= 2 && f[0] == "require" && f[1] == "(":
			inside = true
		case len(f) >= 1 && f[0] == ")":
			inside = false
		case len(f) >= 3 && f[0] == "require":
			mods[f[1]] = !strings.HasSuffix(strings.TrimSpace(line), "// indirect")
		case inside && len(f) >= 2:
			mods[f[0]] = !strings.HasSuffix(strings.TrimSpace(line), "// indirect")
		}
	}
	return mods
}

// checkDependencies: every module that is imported, or required directly, has
// a row in doc/dependencies.md, and outside of tests only the packages of that
// row import it. A row that go.mod does not know is an error. What a module of
// its own needs reaches nobody else, and stands in its go.mod alone.
func checkDependencies(h *house) []string {
	deps, wrong := parseDependencies(h.texts["doc/dependencies.md"])
	mods := required(h.texts["go.mod"])
	find := func(imp string) *dependency {
		for i := range deps {
			if within(imp, deps[i].module) {
				return &deps[i]
			}
		}
		return nil
	}
	for _, d := range deps {
		if _, ok := mods[d.module]; !ok {
			wrong = append(wrong, fmt.Sprintf("doc/dependencies.md: %s is not in go.mod", d.module))
		}
	}
	for mod, direct := range mods {
		if direct && find(mod) == nil {
			wrong = append(wrong, fmt.Sprintf("go.mod: %s is not in doc/dependencies.md", mod))
		}
	}
	for _, s := range h.files {
		if h.apart(s.pkg) {
			continue
		}
		for _, imp := range s.imports() {
			first, _, _ := strings.Cut(imp, "/")
			if !strings.Contains(first, ".") || within(imp, module) {
				continue
			}
			d := find(imp)
			switch {
			case d == nil:
				wrong = append(wrong, fmt.Sprintf("%s: %s is not in doc/dependencies.md", s.path, imp))
			case !s.test && !within(s.pkg, "test") && !slices.Contains(d.packages, s.pkg):
				wrong = append(wrong, fmt.Sprintf("%s: doc/dependencies.md does not let %s import %s", s.path, s.pkg, d.module))
			}
		}
	}
	sort.Strings(wrong)
	return wrong
}
