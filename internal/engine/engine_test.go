package engine

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"slices"
	"testing"
)

func TestMain(m *testing.M) {
	InitMain()
	mortal()
	os.Exit(m.Run())
}

// memStore keeps one generation in memory; it is Sink and Source.
type memStore struct {
	blobs    map[string][]byte
	sections map[string]map[int64][]byte
	parent   *memStore
}

func newMemStore(parent *memStore) *memStore {
	return &memStore{map[string][]byte{}, map[string]map[int64][]byte{}, parent}
}

type memSection struct{ pages map[int64][]byte }

func (s *memStore) sink() Sink     { return memSink{s} }
func (s *memStore) source() Source { return memSource{s} }

type memSink struct{ *memStore }

func (s memSink) Blob(name string, data []byte) error { s.blobs[name] = data; return nil }
func (s memSink) Section(name string, inherit bool) (SectionSink, error) {
	m := &memSection{map[int64][]byte{}}
	if inherit {
		p, ok := s.parent.sections[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		m.pages = maps.Clone(p)
	}
	s.sections[name] = m.pages
	return m, nil
}

func (m *memSection) Put(off int64, p []byte) error {
	for i := 0; i < len(p); i += 4096 {
		m.pages[off+int64(i)] = slices.Clone(p[i : i+4096])
	}
	return nil
}

func (m *memSection) Zero(off, n int64) error {
	for k := range m.pages {
		if k >= off && k < off+n {
			delete(m.pages, k)
		}
	}
	return nil
}
func (m *memSection) Close() error { return nil }

type memSource struct{ *memStore }

func (s memSource) Blob(name string) ([]byte, error) {
	if b, ok := s.blobs[name]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

func (s memSource) Section(name string) (SectionSource, error) {
	if p, ok := s.sections[name]; ok {
		return &memSection{p}, nil
	}
	return nil, fs.ErrNotExist
}

func (m *memSection) Each(from, to int64, f func(int64, []byte) error) error {
	for _, k := range slices.Sorted(maps.Keys(m.pages)) {
		if k >= from && k < to {
			if err := f(k, m.pages[k]); err != nil {
				return err
			}
		}
	}
	return nil
}
func (m *memSection) ReadAt(p []byte, off int64) (int, error) { panic("unused") }

// checkpoint takes a generation and lets the tree go on.
func checkpoint(t *testing.T, tree *Tree, parent *memStore) *memStore {
	t.Helper()
	ctx := context.Background()
	f, err := tree.Freeze(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := newMemStore(parent)
	err = f.Dump(ctx, s.sink(), parent != nil)
	if terr := f.Thaw(); terr != nil {
		t.Fatal(terr)
	}
	if err != nil {
		t.Fatal(err)
	}
	tree.Committed()
	return s
}

// restored brings a generation back.
func restored(t *testing.T, s *memStore, rec *os.File) *Tree {
	t.Helper()
	r, err := Restore(context.Background(), s.source(), RestoreOptions{Record: rec})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := r.Run()
	if err != nil {
		t.Fatal(err)
	}
	return tree
}
