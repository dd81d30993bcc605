package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// quoted is a command that a text tells a person to give.
var quoted = regexp.MustCompile("`(wakepoint [^`]*)`|\"(wakepoint [^\"]*)\"")

// TestHints: every command that an error, a hint or a help text names can be
// given: the command exists, its flags do, and it takes as many arguments.
func TestHints(t *testing.T) {
	found := 0
	for _, room := range []string{".", "../../internal", "../../README.md", "../../CHANGELOG.md"} {
		err := filepath.WalkDir(room, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			for _, text := range textsOf(t, path) {
				for _, m := range quoted.FindAllStringSubmatch(text, -1) {
					found++
					tryHint(t, path, m[1]+m[2], m[2] != "" || strings.HasSuffix(path, ".md"))
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 40 {
		t.Errorf("only %d commands were found in the texts", found)
	}
}

// textsOf returns the texts of a file: of Go source the strings, with a 7 for
// what is put together when it runs; of Markdown all of it.
func textsOf(t *testing.T, path string) []string {
	t.Helper()
	switch {
	case strings.HasSuffix(path, ".md"):
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return []string{string(b)}
	case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
		return nil
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if n.Op == token.ADD {
				texts = append(texts, sumText(n))
				return false
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				texts = append(texts, sumText(n))
			}
		}
		return true
	})
	return texts
}

var verbs = regexp.MustCompile(`%[a-z]`)

// sumText is the text of an expression that adds strings.
func sumText(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return sumText(e.X) + sumText(e.Y)
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil {
			return verbs.ReplaceAllString(text, "7")
		}
	}
	return "7"
}

// tryHint parses a command line as wakepoint would. A text that only speaks of
// a command, as helps do in double quotes, may leave its arguments out.
func tryHint(t *testing.T, path, line string, speaksOf bool) {
	t.Helper()
	words := strings.Fields(line)[1:]
	if len(words) > 0 && strings.HasPrefix(words[0], "_") || line == "wakepoint store 1" {
		return // not for people; a version file
	}
	if speaksOf && len(words) > 0 && words[0] == "COMMAND" {
		return
	}
	root := newApp(os.Stdin, os.Stdout, os.Stderr, nil).root()
	cmd, rest, err := root.Find(words)
	if err != nil || cmd == root && len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		t.Errorf("%s: `%s`: there is no such command", path, line)
		return
	}
	if err := cmd.ParseFlags(rest); err != nil && !strings.Contains(err.Error(), "help requested") {
		t.Errorf("%s: `%s`: %v", path, line, err)
		return
	} else if err != nil {
		return
	}
	if speaksOf && len(cmd.Flags().Args()) == 0 {
		return
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		t.Errorf("%s: `%s`: %v", path, line, err)
	}
}
