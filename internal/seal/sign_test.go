package seal_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/seal"
)

// TestSigner: a signer is its key's own, and never another's by a change of
// version: what was trusted stays so.
func TestSigner(t *testing.T) {
	s := seal.SignerOf(seal.Key{1})
	const want = "547614d5b4d5b034fe5139dbc57249ab915666260e2cb6b119886332a35cfa85"
	if s.String() != want {
		t.Errorf("the signer of the key 1 is %s, was %s", s, want)
	}
	if got, err := seal.ParseSigner(s.String() + "\n"); err != nil || got != s {
		t.Errorf("%v, %v", got, err)
	}
	if s == seal.SignerOf(seal.Key{2}) {
		t.Error("two keys have one signer")
	}
	for _, bad := range []string{"", "ab", s.String()[2:], s.String() + "00", "zz" + s.String()[2:]} {
		if _, err := seal.ParseSigner(bad); !errors.Is(err, seal.ErrSigner) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTrusted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "etc", "trusted")
	if list, err := seal.Trusted(disk.OS{}, file); err != nil || len(list) != 0 {
		t.Errorf("none yet: %v, %v", list, err)
	}
	a, b := seal.SignerOf(seal.Key{1}), seal.SignerOf(seal.Key{2})
	for _, s := range []seal.Signer{a, b, a} {
		if err := seal.Trust(disk.OS{}, file, s); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := seal.Trusted(disk.OS{}, file); err != nil || !slices.Equal(list, []seal.Signer{a, b}) {
		t.Errorf("%v, %v", list, err)
	}
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write("# the old machine\n\n"+a.String()+" # until May", 0o600)
	if err := seal.Trust(disk.OS{}, file, b); err != nil {
		t.Fatal(err)
	}
	if list, err := seal.Trusted(disk.OS{}, file); err != nil || !slices.Equal(list, []seal.Signer{a, b}) {
		t.Errorf("with comments: %v, %v", list, err)
	}
	write(a.String(), 0o640)
	if _, err := seal.Trusted(disk.OS{}, file); !errors.Is(err, seal.ErrExposed) {
		t.Errorf("readable by others: %v", err)
	}
	write(a.String()+"\nnonsense\n", 0o600)
	if _, err := seal.Trusted(disk.OS{}, file); !errors.Is(err, seal.ErrSigner) {
		t.Errorf("nonsense: %v", err)
	}
	if err := seal.Trust(disk.OS{}, file, b); !errors.Is(err, seal.ErrSigner) {
		t.Errorf("nonsense was written anew: %v", err)
	}
}
