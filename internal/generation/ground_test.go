package generation

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/image"
)

// blobs is a generation that has nothing else.
type blobs map[string][]byte

func (b blobs) Blob(name string) ([]byte, error) {
	if p, ok := b[name]; ok {
		return p, nil
	}
	return nil, os.ErrNotExist
}

func (b blobs) Section(string) (engine.SectionSource, error) { return nil, os.ErrNotExist }

type blobSink struct{ blobs }

func (s blobSink) Blob(name string, data []byte) error {
	s.blobs[name] = data
	return nil
}

func (s blobSink) Section(string, bool) (engine.SectionSink, error) { return nil, os.ErrInvalid }

// TestUnder: every directory lies on the file system with the longest name above it.
func TestUnder(t *testing.T) {
	got := under([]string{"/data", "/data/deep", "/database", "/none"},
		[]string{"/", "/data", "/data/a", "/data/b", "/data/deep", "/data/deeper", "/database/x", "/usr/bin"})
	want := []mount{{"/data", "/data/a"}, {"/data/deep", "/data/deep"}, {"/database", "/database/x"}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
}

// TestMissing: what is written of a tree is there on the host that wrote it,
// and what is not there is named.
func TestMissing(t *testing.T) {
	dir := t.TempDir()
	tree := &image.Tree{Version: image.Version, Arch: "amd64", Spaces: []image.Space{{}}, Tables: []image.Table{{}}, Processes: []image.Process{{PID: 2, Cwd: dir, Root: "/",
		Threads: []image.Thread{{TID: 2, Creds: image.Creds{UID: [4]uint32{1, 0, 0, 4000000001}}}}}}}
	text, err := image.Encode(tree)
	if err != nil {
		t.Fatal(err)
	}
	b := blobs{}
	n := Note(blobSink{b})
	if err := n.Blob(engine.TreeBlob, text); err != nil {
		t.Fatal(err)
	}
	if err := n.Ground(); err != nil {
		t.Fatal(err)
	}
	if got, err := Missing(b); err != nil || len(got) != 0 {
		t.Errorf("on the same host: %q, %v", got, err)
	}
	if !strings.Contains(string(b[groundName]), `"1":"`) || strings.Contains(string(b[groundName]), "4000000001") {
		t.Errorf("users with a name are noted, others not: %s", b[groundName])
	}
	for _, c := range []struct{ ground, want string }{
		{`{"mounts":[{"point":"/nowhere","dir":"/nowhere/at/all"}]}`, "the file system at /nowhere is not mounted"},
		{`{"mounts":[{"point":"` + dir + `","dir":"` + dir + `"}]}`, "the file system at " + dir + " is not mounted"},
		{`{"mounts":[{"point":"/etc","dir":"/etc"}]}`, ""},
		{`{"mounts":[{"point":"/nowhere","dir":"` + dir + `"}]}`, ""},
		{`{"users":{"4000000001":"alice","1":"daemon"}}`, "there is no user 4000000001 (alice)"},
		{`{}`, ""},
	} {
		got, err := Missing(blobs{groundName: []byte(c.ground)})
		if err != nil || strings.Join(got, "; ") != c.want {
			t.Errorf("%s: %q, %v", c.ground, got, err)
		}
	}
	if _, err := Missing(blobs{groundName: []byte("{")}); err == nil {
		t.Error("half a text was believed")
	}
	if got, err := Missing(blobs{}); err != nil || len(got) != 0 {
		t.Errorf("an older generation: %q, %v", got, err)
	}
}
