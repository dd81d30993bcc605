package durable

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestFSDoc: what is said of FS and File, whose methods their users have to write,
// names all of them, and nothing else.
func TestFSDoc(t *testing.T) {
	text, err := os.ReadFile("fs.go")
	must(t, err)
	doc := strings.NewReplacer("io.ReaderAt", "ReadAt(", "io.WriterAt", "WriteAt(", "io.Reader", "Read(", "io.Writer", "Write(", "io.Closer\n", "Close(").Replace(string(text))
	fsDoc, fileDoc, _ := strings.Cut(doc, "type FS =")
	for what, c := range map[string]struct {
		doc string
		of  reflect.Type
	}{"FS": {fsDoc, reflect.TypeFor[FS]()}, "File": {fileDoc, reflect.TypeFor[File]()}} {
		for i := range c.of.NumMethod() {
			if name := c.of.Method(i).Name; !strings.Contains(c.doc, "//	"+name+"(") {
				t.Errorf("%s: nothing is said of %s", what, name)
			}
		}
		if n := strings.Count(c.doc, "//	"); n != c.of.NumMethod() {
			t.Errorf("%s: %d methods of %d", what, n, c.of.NumMethod())
		}
	}
}
