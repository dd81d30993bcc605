package wakepoint_test

import (
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/token"
	"path"
	"slices"
	"sort"
	"strings"
)

// checkDocs: every package has a doc comment, outside of its tests where it
// has more than tests, that begins as godoc expects.
func checkDocs(h *house) []string {
	documented, hasProduct := map[string]bool{}, map[string]bool{}
	for _, s := range h.files {
		hasProduct[s.pkg] = hasProduct[s.pkg] || !s.test
	}
	for _, s := range h.files {
		begin := "Package " + s.file.Name.Name + " "
		if s.file.Name.Name == "main" {
			begin = "Command " + path.Base(s.pkg) + " "
		}
		doc := strings.ReplaceAll(s.file.Doc.Text(), "\n", " ")
		ok := strings.HasPrefix(doc, begin) && (!s.test || !hasProduct[s.pkg])
		documented[s.pkg] = documented[s.pkg] || ok
	}
	var wrong []string
	for pkg, ok := range documented {
		if !ok {
			wrong = append(wrong, fmt.Sprintf("%s: no doc comment that begins with \"Package NAME\" or \"Command NAME\"", pkg))
		}
	}
	sort.Strings(wrong)
	return wrong
}

// checkUnsafe: unsafe only in internal/sys/*_unsafe.go, cgo nowhere.
func checkUnsafe(h *house) []string {
	var wrong []string
	for _, s := range h.files {
		fenced, _ := path.Match("internal/sys/*_unsafe.go", s.path)
		for _, imp := range s.imports() {
			if imp == "C" || imp == "unsafe" && !fenced {
				wrong = append(wrong, fmt.Sprintf("%s: may not import %q", s.path, imp))
			}
		}
	}
	return wrong
}

// architectures are the values of GOARCH.
var architectures = strings.Fields("386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm")

// suffixArch returns the architecture in a file name, as go/build reads it.
func suffixArch(name string) string {
	base := strings.TrimSuffix(strings.TrimSuffix(name, path.Ext(name)), "_test")
	_, after, found := strings.Cut(base, "_")
	if last := after[strings.LastIndex(after, "_")+1:]; found && slices.Contains(architectures, last) {
		return last
	}
	return ""
}

// checkArchitecture: only archRooms hold assembly and files that are built for
// one architecture; elsewhere an architecture is a value.
func checkArchitecture(h *house) []string {
	var wrong []string
	note := func(p, what string) {
		if !withinAny(path.Dir(p), archRooms) {
			wrong = append(wrong, fmt.Sprintf("%s: %s outside %s", p, what, strings.Join(archRooms, ", ")))
		}
	}
	for _, p := range h.others {
		if path.Ext(p) == ".s" && !strings.Contains("/"+p, "/testdata/") {
			note(p, "assembly")
		}
	}
	for _, s := range h.files {
		if arch := suffixArch(path.Base(s.path)); arch != "" {
			note(s.path, "suffix "+arch)
		}
		for _, group := range s.file.Comments {
			for _, c := range group.List {
				if c.Pos() > s.file.Package || !constraint.IsGoBuild(c.Text) {
					continue
				}
				if arch := tagArch(c.Text); arch != "" {
					note(s.path, "build tag "+arch)
				}
			}
		}
	}
	return wrong
}

// tagArch returns an architecture that a //go:build line names.
func tagArch(line string) (arch string) {
	expr, err := constraint.Parse(line)
	if err != nil {
		return ""
	}
	expr.Eval(func(tag string) bool { // not lazy: asks for every tag
		if slices.Contains(architectures, tag) {
			arch = tag
		}
		return false
	})
	return arch
}

// checkState: no func init, and no package variable whose only use is to be
// changed: a mutex, a counter, an empty map, a channel. Tables are no state.
func checkState(h *house) []string {
	var wrong []string
	for _, s := range h.files {
		for _, decl := range s.file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					wrong = append(wrong, fmt.Sprintf("%s: func init", s.path))
				}
			case *ast.GenDecl:
				if d.Tok != token.VAR || s.test {
					continue
				}
				for _, spec := range d.Specs {
					v := spec.(*ast.ValueSpec)
					if stateful(v) {
						wrong = append(wrong, fmt.Sprintf("%s: package state: var %s", s.path, v.Names[0].Name))
					}
				}
			}
		}
	}
	return wrong
}

// stateful judges one declaration of package variables.
func stateful(v *ast.ValueSpec) bool {
	if v.Names[0].Name == "_" {
		return false
	}
	if len(v.Values) == 0 {
		switch v.Type.(type) {
		case *ast.MapType, *ast.ChanType:
			return true
		}
	}
	return fromSync(v.Type) || slices.ContainsFunc(v.Values, statefulValue)
}

func statefulValue(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.UnaryExpr:
		return statefulValue(e.X)
	case *ast.CompositeLit:
		_, isMap := e.Type.(*ast.MapType)
		return isMap && len(e.Elts) == 0 || fromSync(e.Type)
	case *ast.CallExpr:
		if name, ok := e.Fun.(*ast.Ident); ok {
			return name.Name == "make" || name.Name == "new" && fromSync(e.Args[0])
		}
		return fromSync(e.Fun)
	}
	return false
}

// fromSync says whether an expression names something of sync or sync/atomic.
func fromSync(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.StarExpr:
		return fromSync(e.X)
	case *ast.IndexExpr: // atomic.Pointer[T]
		return fromSync(e.X)
	case *ast.SelectorExpr:
		pkg, ok := e.X.(*ast.Ident)
		return ok && (pkg.Name == "sync" || pkg.Name == "atomic")
	}
	return false
}

// checkSizes holds the limits of size, and that their exceptions are needed.
func checkSizes(h *house) []string { return overLong(h, tooLong) }

func overLong(h *house, exceptions map[string]int) []string {
	var wrong []string
	files, lines, sizes := map[string]int{}, map[string]int{}, map[string]int{}
	limit := func(what string, size, max int) {
		sizes[what] = size
		if exception, ok := exceptions[what]; ok && size > max {
			max = exception
		}
		if size > max {
			wrong = append(wrong, fmt.Sprintf("%s: %d lines, at most %d", what, size, max))
		}
	}
	for _, s := range h.files {
		if !s.test {
			files[s.pkg]++
			lines[s.pkg] += s.lines
		}
		limit(s.path, s.lines, fileLinesMax)
		for _, decl := range s.file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok {
				n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
				limit(s.path+":"+funcName(f), n, funcLinesMax)
			}
		}
	}
	for pkg, n := range files {
		if n > packageFilesMax || lines[pkg] > packageLinesMax {
			wrong = append(wrong, fmt.Sprintf("%s: %d files, %d lines; at most %d and %d",
				pkg, n, lines[pkg], packageFilesMax, packageLinesMax))
		}
	}
	for what := range exceptions {
		max := fileLinesMax
		if strings.Contains(what, ".go:") {
			max = funcLinesMax
		}
		if sizes[what] <= max {
			wrong = append(wrong, fmt.Sprintf("%s: no longer needs its exception", what))
		}
	}
	sort.Strings(wrong)
	return wrong
}

// funcName returns Func or Type.Func.
func funcName(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return f.Name.Name
	}
	e := f.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.Name + "." + f.Name.Name
		default:
			return f.Name.Name
		}
	}
}

// checkWords: the text speaks of the product, not of where it was written.
func checkWords(h *house) []string {
	var wrong []string
	for p, text := range h.texts {
		for i, line := range strings.Split(string(text), "\n") {
			if m := foreign.FindString(line); m != "" {
				wrong = append(wrong, fmt.Sprintf("%s:%d: %q means nothing to a reader", p, i+1, strings.TrimSpace(m)))
			}
		}
	}
	sort.Strings(wrong)
	return wrong
}
