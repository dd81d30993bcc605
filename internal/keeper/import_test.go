package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/bundle"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/generation"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/seal"
	"github.com/wakepoint/wakepoint/internal/store"
)

// parcel is what an export would write, to be spoiled.
type parcel struct {
	info    bundle.Info
	records map[string]any
	blobs   map[string][]byte
	pages   int // of the section
}

func goodParcel(t *testing.T) *parcel {
	t.Helper()
	tree, err := image.Encode(&image.Tree{Version: image.Version, Arch: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := preparePolicy(api.Policy{}, shell(counter))
	if err != nil {
		t.Fatal(err)
	}
	return &parcel{
		info:    bundle.Info{Workload: "web", Generation: 411, Committed: 1, Tag: "t", Meta: map[string]string{metaRun: "7", metaFrom: "400"}},
		records: map[string]any{recordSpec: shell(counter), recordPolicy: p},
		blobs:   map[string][]byte{engine.TreeBlob: tree},
		pages:   3,
	}
}

// wrap writes it, signed by a site without a key of its own.
func (p *parcel) wrap(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	w, err := bundle.NewWriter(&out, seal.Key{}.SigningKey(), time.Now(), p.info)
	for _, name := range []string{"", recordHistory, recordPolicy, recordSpec} {
		if v, ok := p.records[name]; ok && err == nil {
			text, jerr := json.Marshal(v)
			err = errors.Join(jerr, w.Record(name, text))
		}
	}
	for _, name := range []string{files.IndexName, files.KeptName, engine.TreeBlob} {
		if v, ok := p.blobs[name]; ok && err == nil {
			err = w.Blob(name, v)
		}
	}
	if err == nil {
		err = w.Section("mem")
	}
	for i := range p.pages {
		err = errors.Join(err, w.Run(int64(i)*bundle.PageSize, bytes.Repeat([]byte{byte(i), 1}, bundle.PageSize/2)))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// leftOf lists what is in a store beside its own file.
func leftOf(t *testing.T, s Site) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.StoreDir, "workloads"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// TestImport: a workload that is stopped, whose runs are counted anew.
func TestImport(t *testing.T) {
	s := Site{StoreDir: filepath.Join(t.TempDir(), "store")}
	out, err := Import(context.Background(), s, goodParcel(t).wrap(t), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if out.Name != "web" || out.Generation != "g1" || out.From != "web@g411" {
		t.Errorf("%+v", out)
	}
	w, err := s.workload("web")
	if err != nil {
		t.Fatal(err)
	}
	rec, err := readRecords(w)
	if err != nil {
		t.Fatal(err)
	}
	if rec.run.Wanted || rec.run.State != api.Stopped || !rec.run.Frozen || rec.spec.Name != "web" {
		t.Errorf("%+v", rec.run)
	}
	l, err := readLineage(w)
	if err != nil || l.head(rec.run) != 1 || len(l.line(1)) != 1 || !taken(l.infos[0]).Equal(time.Unix(0, 1)) {
		t.Errorf("%+v, %v", l, err)
	}
	if err := w.RemoveRecord(recordRun); err != nil {
		t.Fatal(err)
	}
	if rec, err = readRecords(w); err != nil || rec.run.Wanted || rec.run.State != api.Stopped || !rec.run.Frozen {
		t.Errorf("without the record of what it does: %+v, %v", rec.run, err)
	}
	if l.head(rec.run) != 1 {
		t.Errorf("it stands on %v", l.head(rec.run))
	}
}

// TestImportHostile: what a signer who is trusted may get wrong, or do on
// purpose. Nothing is left of any of it, and nothing comes to lie elsewhere.
func TestImportHostile(t *testing.T) {
	index := func(path string) []byte {
		p, err := (&files.Index{Version: 1, Entries: []files.Entry{{Path: path, Kind: files.Regular}}}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, spoil := range map[string]func(p *parcel){
		"no spec":              func(p *parcel) { delete(p.records, recordSpec) },
		"no policy":            func(p *parcel) { delete(p.records, recordPolicy) },
		"no tree":              func(p *parcel) { delete(p.blobs, engine.TreeBlob) },
		"no command":           func(p *parcel) { p.records[recordSpec] = api.Spec{Dir: "/"} },
		"no directory":         func(p *parcel) { p.records[recordSpec] = api.Spec{Argv: []string{"x"}, Dir: "x"} },
		"a spec that is none":  func(p *parcel) { p.records[recordSpec] = 7 },
		"a policy of nonsense": func(p *parcel) { p.records[recordPolicy] = api.Policy{EverySeconds: -1} },
		"verdicts":             func(p *parcel) { p.records[recordHistory] = policy.History{} },
		"an image that is none": func(p *parcel) {
			p.blobs[engine.TreeBlob] = []byte{0xba, 255, 255, 255, 255}
		},
		"a file outside of all": func(p *parcel) { p.blobs[files.IndexName] = index("/data/../../etc/passwd") },
		"a file without a root": func(p *parcel) { p.blobs[files.IndexName] = index("etc/passwd") },
		"what is kept is none":  func(p *parcel) { p.blobs[files.KeptName] = []byte("x") },
		"an index that is none": func(p *parcel) { p.blobs[files.IndexName] = []byte("x") },
	} {
		s := Site{StoreDir: filepath.Join(t.TempDir(), "store")}
		p := goodParcel(t)
		spoil(p)
		_, err := Import(context.Background(), s, p.wrap(t), ImportOptions{})
		if e := api.AsError(err); e == nil || e.Code != api.CodeIntegrity || e.Hint == "" {
			t.Errorf("%s: %+v", name, e)
		}
		if left := leftOf(t, s); left != "" {
			t.Errorf("%s: left behind: %s", name, left)
		}
	}
}

// TestImportCut: an import that is interrupted, at whatever page, leaves
// nothing; and one whose name is taken meanwhile.
func TestImportCut(t *testing.T) {
	p := goodParcel(t)
	p.pages = 100
	file := p.wrap(t)
	for _, after := range []int{0, 1, 50, 99, 100} {
		s := Site{StoreDir: filepath.Join(t.TempDir(), "store")}
		st, err := s.open()
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		size, err := f.Seek(0, 2)
		if err != nil {
			t.Fatal(err)
		}
		c, err := bundle.Check(f, size)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		in := &incoming{st: st, user: generation.User{Root: true}}
		err = c.Read(&countdown{ended{ctx, in}, after, cancel})
		if err == nil {
			_, err = in.commit(ctx)
		}
		if err != nil && in.w == nil {
			t.Fatal(err)
		}
		if err := in.turnAway(); err != nil {
			t.Errorf("after %d: %v", after, err)
		}
		if left := leftOf(t, s); left != "" {
			t.Errorf("after %d: left behind: %s (%v)", after, left, err)
		}
		cancel()
		f.Close()
	}
}

// countdown ends a context after some runs of pages.
type countdown struct {
	ended
	left   int
	cancel func()
}

func (c *countdown) Run(off int64, p []byte) error {
	if c.left--; c.left < 0 {
		c.cancel()
	}
	return c.ended.Run(off, p)
}

// TestExportImport brings the pages and values of a generation over, with
// holes where they were.
func TestExportImport(t *testing.T) {
	ctx := context.Background()
	from, to := Site{StoreDir: filepath.Join(t.TempDir(), "a")}, Site{StoreDir: filepath.Join(t.TempDir(), "b")}
	if _, err := Import(ctx, from, goodParcel(t).wrap(t), ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	w, err := from.workload("web")
	if err != nil {
		t.Fatal(err)
	}
	own, err := w.Lock()
	if err != nil {
		t.Fatal(err)
	}
	d, err := w.Begin(1)
	if err != nil {
		t.Fatal(err)
	}
	big := bytes.Repeat([]byte("tree"), 1<<19)
	sec, err := d.Section("mem", true)
	err = errors.Join(err, sec.Put(1<<45, bytes.Repeat([]byte("page"), 600*1024)), sec.Zero(bundle.PageSize, bundle.PageSize), sec.Close(), d.Blob("other", big))
	tree := goodParcel(t).blobs[engine.TreeBlob]
	err = errors.Join(err, d.Blob(engine.TreeBlob, tree))
	if err != nil {
		t.Fatal(err)
	}
	want, err := d.Commit(ctx, store.CommitInfo{Tag: "two", Pause: 5, Meta: map[string]string{metaRun: "1"}})
	if err := errors.Join(err, own.Close()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	out, err := ExportFile(ctx, from, "web", "", file)
	if err != nil || out.Generation != "g2" {
		t.Fatalf("%+v, %v", out, err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode() != 0o600 || st.Size() != out.Bytes {
		t.Errorf("%v, %v", st, err)
	}
	if _, err := Import(ctx, to, file, ImportOptions{Name: "there"}); err != nil {
		t.Fatal(err)
	}
	if w, err = to.workload("there"); err != nil {
		t.Fatal(err)
	}
	r, err := w.OpenGeneration(1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := r.Info(); got.TotalBytes != want.TotalBytes || got.Tag != "two" || got.Pause != 5 || got.Meta[metaImported] != "2" {
		t.Errorf("%+v, was %+v", got, want)
	}
	if got, err := r.Blob("other"); err != nil || !bytes.Equal(got, big) {
		t.Errorf("a blob: %v", err)
	}
	s, err := r.Section("mem")
	if err != nil {
		t.Fatal(err)
	}
	page := make([]byte, bundle.PageSize)
	for off, want := range map[int64]string{0: "\x00\x01", bundle.PageSize: "\x00\x00", 2 * bundle.PageSize: "\x02\x01", 1<<45 + 600*4096 - 4096: "pa"} {
		if _, err := s.ReadAt(page, off); err != nil || string(page[:2]) != want {
			t.Errorf("at %#x: %q, %v", off, page[:2], err)
		}
	}
}
