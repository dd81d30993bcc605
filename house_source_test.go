package wakepoint_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// source is one parsed Go file.
type source struct {
	path  string // slash-separated, from the root
	pkg   string // its directory
	test  bool
	raw   []byte
	lines int
	fset  *token.FileSet
	file  *ast.File
}

// house is the source tree.
type house struct {
	files  []source          // Go files that are neither generated nor testdata
	others []string          // every other file
	texts  map[string][]byte // every file that is text, the Go files included
	broken []string          // what does not parse
}

// open reads the tree below fsys.
func open(fsys fs.FS) (*house, error) {
	h := &house{texts: map[string][]byte{}}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p == ".git" || p == "bin" || p == "dist" || p == "build" {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		raw, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		if !bytes.Contains(raw[:min(len(raw), 8000)], []byte{0}) {
			h.texts[p] = raw
		}
		if path.Ext(p) != ".go" || strings.Contains("/"+p, "/testdata/") {
			h.others = append(h.others, p)
			return nil
		}
		h.add(p, raw)
		return nil
	})
	return h, err
}

// add parses one Go file, unless it is generated.
func (h *house) add(p string, raw []byte) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, p, raw, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		h.broken = append(h.broken, err.Error())
		return
	}
	if ast.IsGenerated(f) {
		return
	}
	h.files = append(h.files, source{
		path: p, pkg: path.Dir(p), test: strings.HasSuffix(p, "_test.go"),
		raw: raw, lines: bytes.Count(raw, []byte("\n")), fset: fset, file: f,
	})
}

// apart says whether a package is of a module of its own below the root.
func (h *house) apart(pkg string) bool {
	for dir := pkg; dir != "."; dir = path.Dir(dir) {
		if h.texts[dir+"/go.mod"] != nil {
			return true
		}
	}
	return false
}

// imports lists the import paths of one file.
func (s *source) imports() []string {
	var list []string
	for _, spec := range s.file.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// within says whether a package is root or lies below it.
func within(pkg, root string) bool {
	return pkg == root || strings.HasPrefix(pkg, root+"/")
}

func withinAny(pkg string, roots []string) bool {
	return slices.ContainsFunc(roots, func(r string) bool { return within(pkg, r) })
}

// ours returns an import path without the module, or "" for a foreign one.
func ours(imp string) string {
	if rest, ok := strings.CutPrefix(imp, module+"/"); ok {
		return rest
	}
	return ""
}
