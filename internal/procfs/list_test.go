package procfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseChildren(t *testing.T) {
	for _, c := range []struct {
		text string
		want []int
	}{{"", nil}, {"7688 ", []int{7688}}, {"9 10 8 ", []int{9, 10, 8}}, {"1 x ", nil}} {
		got, err := ParseChildren([]byte(c.text))
		if diff := cmp.Diff(c.want, got); diff != "" || (err != nil) != strings.Contains(c.text, "x") {
			t.Errorf("%q: %v\n%s", c.text, err, diff)
		}
	}
}

// tree makes a directory that stands for /proc. Names ending in "/" are
// directories, texts that begin with "->" links.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o777)
		if target, ok := strings.CutPrefix(text, "->"); ok && err == nil {
			err = os.Symlink(target, path)
		} else if strings.HasSuffix(name, "/") && err == nil {
			err = os.MkdirAll(path, 0o777)
		} else if err == nil {
			err = os.WriteFile(path, []byte(text), 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestReaderOfTree(t *testing.T) {
	r := NewReader(tree(t, map[string]string{
		"10/task/10/children": "12 11 ", "10/task/10/stat": "10 (x)" + statTail, "10/task/9/": "", "10/task/100/": "",
		"10/fd/0": "->/dev/null", "10/fd/10": "->pipe:[7]", "10/fd/9": "->socket:[8]", "10/maps": mapsText,
		"10/stat": "10 (x", "10/task/10/ns/net": "->net:[5]", "9/": "", "self/": "", "4294967296/": "", "1x/": "",
	}))
	check := func(what string, want []int) func(got []int, err error) {
		return func(got []int, err error) {
			t.Helper()
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%s: %v\n%s", what, err, diff)
			}
		}
	}
	check("processes", []int{9, 10})(r.Processes())
	check("tasks", []int{10, 9, 100})(r.Tasks(10))
	check("fds", []int{0, 9, 10})(r.FDs(10))
	check("children", []int{12, 11})(r.Children(10, 10))
	if l, err := r.FDLink(10, 10); err != nil || l != (Link{Kind: LinkPipe, Inode: 7}) {
		t.Errorf("got %+v, %v", l, err)
	}
	if ns, err := r.Namespaces(10, 10); err != nil || ns != (Namespaces{Net: 5}) {
		t.Errorf("got %+v, %v", ns, err)
	}
	if _, err := r.Namespaces(10, 9); !IsGone(err) {
		t.Errorf("got %v", err)
	}
	if s, err := r.TaskStat(10, 10); err != nil || s.Comm != "x" {
		t.Errorf("got %+v, %v", s, err)
	}
	if m, err := r.Maps(10); err != nil || len(m) != 11 {
		t.Errorf("got %d mappings, %v", len(m), err)
	}
	var path *fs.PathError
	if _, err := r.Stat(10); !errors.As(err, &path) || path.Op != "parse" || IsGone(err) {
		t.Errorf("got %v", err)
	}
	if _, err := r.Stat(11); !IsGone(err) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// A file larger than the buffer is read whole, and the larger buffer kept.
func TestReaderGrows(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 3*bufferSize/16)
	r := NewReader(tree(t, map[string]string{"big": text, "exact": text[:bufferSize], "empty": ""}))
	for _, c := range []struct {
		name string
		size int
	}{{"exact", bufferSize}, {"big", 3 * bufferSize}, {"empty", 0}, {"exact", bufferSize}} {
		if got, err := r.File(c.name); err != nil || string(got) != text[:c.size] {
			t.Errorf("%s: %d bytes, %v", c.name, len(got), err)
		}
	}
}

// TestTasksBeginAnew: numbers that were given out after the highest are lower
// than that of the first thread, which comes first all the same.
func TestTasksBeginAnew(t *testing.T) {
	root := t.TempDir()
	for _, tid := range []string{"32767", "301", "300"} {
		if err := os.MkdirAll(filepath.Join(root, "32767", "task", tid), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	got, err := NewReader(root).Tasks(32767)
	if want := []int{32767, 300, 301}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, not %v", got, err, want)
	}
}
