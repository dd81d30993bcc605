package image

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
)

// sample is a tree with one of each kind of thing, without what was added
// after the first release of the encoding.
func sample() *Tree {
	return &Tree{
		Version: Version, Arch: "amd64", Command: 7, Clock: Clock{1, 2, 3}, Vdso: []byte{1}, HostIPC: true,
		Processes: []Process{
			{PID: 7, PGID: 7, SID: 7, ExitSignal: 17, Name: "shell", Cwd: "/", Root: "/", Umask: 0o22,
				Actions: []Action{{2, []byte{1, 2}}}, Pending: [][]byte{{3}}, Timers: []Timer{{ID: 1, Clock: 1, Signal: 14}},
				Threads: []Thread{{TID: 7, Name: "shell", Regs: []uint64{1, 2}, Float: []byte{4}, Pending: [][]byte{{5}},
					Sched: Sched{Affinity: []uint64{3}}, Creds: Creds{Groups: []uint32{0}},
					Restart: &Restart{Call: 7, Args: [6]uint64{1}, Left: -1}}}},
			{PID: 8, PPID: 7, PGID: 7, SID: 7, ExitSignal: 17, Name: "dead", Zombie: true, ExitCode: 0x100, Space: -1, Table: -1},
		},
		Spaces: []Space{{Section: "mem/7", Exe: "/bin/sh", Layout: Layout{Brk: 9, Auxv: []byte{6}},
			Areas: []Area{{Start: 0x1000, End: 0x2000, Prot: 3, Object: -1, Advice: []int{14}}}}},
		Tables:       []Table{{Entries: []Entry{{FD: 1, CloseOnExec: true}}}},
		Descriptions: []Description{{Kind: PipeEnd, Flags: 1, Object: -1, Pipe: &Pipe{ID: 3, Size: 65536}}},
		Objects:      []Object{{Kind: Memfd, Section: "obj/1", Size: 4096, Name: "m"}},
		Terminal:     &Terminal{Termios: []byte{7}, Session: 7, Group: 7, Path: "/dev/pts/0"},
	}
}

var update = flag.Bool("update", false, "write testdata anew, which no release may need")

// TestOlder: what the first build wrote is read by all that follow.
func TestOlder(t *testing.T) {
	path := filepath.Join("testdata", "first.cbor")
	if *update {
		b, err := Encode(sample())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sample(), got); d != "" {
		t.Errorf("want, got:\n%s", d)
	}
}

// TestNewer: what a newer build wrote is refused, and the error says so.
func TestNewer(t *testing.T) {
	type m = map[string]any
	for _, test := range []struct {
		name  string
		add   func(tree m)
		newer bool
	}{
		{"as it is", func(m) {}, false},
		{"a field of the tree", func(tree m) { tree["quantum_state"] = 1 }, true},
		{"a field of a process", func(tree m) { tree["processes"].([]any)[0].(m)["quantum_state"] = 1 }, true},
		{"a field of an area", func(tree m) { tree["spaces"].([]any)[0].(m)["areas"].([]any)[0].(m)["Quantum"] = 1 }, true},
		{"a higher version", func(tree m) { tree["version"] = Version + 1 }, true},
	} {
		b, err := Encode(sample())
		if err != nil {
			t.Fatal(err)
		}
		mode, err := cbor.DecOptions{DefaultMapType: reflect.TypeFor[m]()}.DecMode()
		if err != nil {
			t.Fatal(err)
		}
		tree := m{}
		if err := mode.Unmarshal(b, &tree); err != nil {
			t.Fatal(err)
		}
		test.add(tree)
		if b, err = cbor.Marshal(tree); err != nil {
			t.Fatal(err)
		}
		_, err = Decode(b)
		var newer *NewerError
		if errors.As(err, &newer) != test.newer || (err != nil) != test.newer {
			t.Errorf("%s: %v", test.name, err)
		}
		if test.newer && !strings.Contains(err.Error(), "made by a newer wakepoint") {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// FuzzDecode: whatever is decoded can be encoded and decoded again, and is
// the same.
func FuzzDecode(f *testing.F) {
	b, err := Encode(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := Decode(b)
		if err != nil {
			return
		}
		once, err := Encode(tree)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(once)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := Encode(again)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("not the same after a second time: %v", err)
		}
	})
}
