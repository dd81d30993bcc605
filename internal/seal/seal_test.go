package seal_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/seal"
)

func TestSeal(t *testing.T) {
	s := seal.New().Sealer()
	plain, ad := []byte("the state of the program"), []byte("where it lies")
	sealed := s.Seal([]byte("before"), 7, plain, ad)
	if len(sealed) != len("before")+len(plain)+seal.Overhead {
		t.Fatalf("%d bytes", len(sealed))
	}
	sealed = sealed[len("before"):]
	if bytes.Contains(sealed, plain[:4]) {
		t.Error("it can be read")
	}
	got, err := s.Open(nil, 7, sealed, ad)
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("%q: %v", got, err)
	}
	for name, open := range map[string]func() ([]byte, error){
		"another counter": func() ([]byte, error) { return s.Open(nil, 8, sealed, ad) },
		"another place":   func() ([]byte, error) { return s.Open(nil, 7, sealed, []byte("elsewhere")) },
		"another key":     func() ([]byte, error) { return seal.New().Sealer().Open(nil, 7, sealed, ad) },
		"cut short":       func() ([]byte, error) { return s.Open(nil, 7, sealed[:len(sealed)-1], ad) },
		"nothing":         func() ([]byte, error) { return s.Open(nil, 7, nil, ad) },
	} {
		if _, err := open(); !errors.Is(err, seal.ErrSeal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x10
		if _, err := s.Open(nil, 7, bad, ad); !errors.Is(err, seal.ErrSeal) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

func TestDerive(t *testing.T) {
	k := seal.Key{1}
	seen := map[seal.Key]string{k: "the key itself"}
	for _, c := range []struct {
		name  string
		other seal.Key
	}{
		{"a purpose", k.Derive("pack")},
		{"another", k.Derive("record")},
		{"with a part", k.Derive("pack", []byte("ab"))},
		{"with two that join to the same", k.Derive("pack", []byte("a"), []byte("b"))},
		{"and so", k.Derive("pack", nil, []byte("ab"))},
		{"of another key", seal.Key{2}.Derive("pack")},
	} {
		if was, ok := seen[c.other]; ok {
			t.Errorf("%s is %s", c.name, was)
		}
		seen[c.other] = c.name
	}
	if first := k.Derive("pack"); first != k.Derive("pack") {
		t.Error("it is not the same each time")
	}
}

func TestHash(t *testing.T) {
	a, b := seal.Key{1}.Hash(), seal.Key{2}.Hash()
	var one, again, other, page [8]byte
	a.Sum(page[:], make([]byte, 4096))
	a.Sum(one[:], []byte("x"))
	a.Sum(again[:], []byte("x"))
	b.Sum(other[:], []byte("x"))
	if one != again || one == other || one == page {
		t.Errorf("%x %x %x %x", one, again, other, page)
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a", "b", "key")
	if _, err := seal.Load(disk.OS{}, file); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("none: %v", err)
	}
	k := seal.New()
	if err := seal.Create(disk.OS{}, file, k); err != nil {
		t.Fatal(err)
	}
	if got, err := seal.Load(disk.OS{}, file); err != nil || got != k {
		t.Fatalf("read back: %v", err)
	}
	if err := seal.Create(disk.OS{}, file, seal.New()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second one: %v", err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.Load(disk.OS{}, file); !errors.Is(err, seal.ErrExposed) {
		t.Errorf("readable by others: %v", err)
	}
	for _, n := range []int{0, 31, 33, 5000} {
		bad := filepath.Join(dir, "bad")
		if err := os.WriteFile(bad, make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.Load(disk.OS{}, bad); err == nil || n < 1000 && !errors.Is(err, seal.ErrKeyFile) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// BenchmarkPage is what a page costs: its hash, its seal, and breaking it.
func BenchmarkPage(b *testing.B) {
	k := seal.New()
	h, s := k.Hash(), k.Sealer()
	page, ad, sum := make([]byte, 4096), make([]byte, 52), make([]byte, 8)
	sealed := s.Seal(nil, 1, page, ad)
	for name, f := range map[string]func(){
		"hash": func() { h.Sum(sum, page) },
		"seal": func() { sealed = s.Seal(sealed[:0], 1, page, ad) },
		"open": func() { _, _ = s.Open(page[:0], 1, sealed, ad) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(page)))
			for b.Loop() {
				f()
			}
		})
	}
}
