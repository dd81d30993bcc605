package files

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// Who else has a file open for writing is found by name; who only reads it, or
// belongs to the workload, is not.
func TestOutside(t *testing.T) {
	dir := t.TempDir()
	ours, other := newProgram(t, false), newProgram(t, false)
	ours.do("cd " + dir + "; echo 1 > log; echo 1 > read; exec 3>> log 4>> read 5> /dev/null 6<> /dev/zero; sleep 100 & echo $! > kid")
	kid, err := os.ReadFile(dir + "/kid")
	must(t, err)
	t.Cleanup(func() { ours.do("kill " + strings.TrimSpace(string(kid))) })
	look := func(o *Outside, now time.Time, asked bool) []Sharer {
		t.Helper()
		var open []Open
		for _, name := range []string{"log", "read"} {
			f, err := os.Open(dir + "/" + name)
			must(t, err)
			defer f.Close()
			open = append(open, Open{Path: dir + "/" + name, File: f, Writable: true})
		}
		c, err := Take(Options{Open: open}, newPages())
		must(t, err)
		defer c.Close()
		found, err := o.Look(c, ours.pid, now, asked)
		must(t, err)
		return found
	}
	other.do("cd " + dir + "; exec 7< read")
	now := time.Now()
	var o Outside
	if found := look(&o, now, false); len(found) != 0 {
		t.Errorf("found %+v", found)
	}
	other.do("ln log second; exec 8>> second")
	if found := look(&o, now.Add(outsideRest-1), false); len(found) != 0 {
		t.Errorf("it looked again at once: %+v", found)
	}
	want := fmt.Sprintf("[{Path:%s/log PID:%d Name:sh}]", dir, other.pid)
	for _, asked := range []bool{true, false, false} { // once found it is looked for each time
		if found := look(&o, now.Add(outsideRest-1), asked); fmt.Sprintf("%+v", found) != want {
			t.Errorf("found %+v, want %s", found, want)
		}
	}
	if found, err := Sharers(ours.pid, ours.pid); err != nil || fmt.Sprintf("%+v", found) != want {
		t.Errorf("found %+v %v, want %s", found, err, want)
	}
	if found, err := Sharers(ours.pid, os.Getpid()); err != nil || len(found) != 0 {
		t.Errorf("what belongs to the same root: %+v %v", found, err)
	}
	other.do("exec 8>&-")
	if found := look(&o, now, false); len(found) != 0 {
		t.Errorf("closed: %+v", found)
	}
	other.do("exec 8>> log")
	if found := look(&o, now.Add(outsideRest), false); len(found) != 1 {
		t.Errorf("after a while: %+v", found)
	}
	must(t, os.Rename(dir+"/log", dir+"/log.1"))
	write(t, dir+"/log", "new", 0o600)
	if found := look(&o, now, false); len(found) != 0 {
		t.Errorf("another file of that name: %+v", found)
	}
}
