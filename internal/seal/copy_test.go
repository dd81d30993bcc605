package seal_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/wakepoint/wakepoint/internal/seal"
)

func TestCopy(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	to, err := seal.ParseRecipient(id.Recipient().String() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	phrase, err := seal.Passphrase("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	k := seal.New()
	for _, c := range []struct {
		name        string
		to          seal.Recipient
		right, left func() (seal.Identity, error)
	}{
		{"recipient", to,
			func() (seal.Identity, error) {
				return seal.ParseIdentities(strings.NewReader("# mine\n" + id.String()))
			},
			func() (seal.Identity, error) { return seal.ParseIdentities(strings.NewReader(other.String())) }},
		{"passphrase", phrase,
			func() (seal.Identity, error) { return seal.PassphraseIdentity("correct horse") },
			func() (seal.Identity, error) { return seal.PassphraseIdentity("another") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := seal.Export(&b, k, c.to); err != nil {
				t.Fatal(err)
			}
			right, err := c.right()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := seal.Import(bytes.NewReader(b.Bytes()), right); err != nil || got != k {
				t.Errorf("import: %v", err)
			}
			left, err := c.left()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := seal.Import(bytes.NewReader(b.Bytes()), left); !errors.Is(err, seal.ErrCopy) {
				t.Errorf("by somebody else: %v", err)
			}
			bad := bytes.Replace(b.Bytes(), []byte("\n"), []byte("\nA"), 1)
			if _, err := seal.Import(bytes.NewReader(bad), right); !errors.Is(err, seal.ErrCopy) {
				t.Errorf("damaged: %v", err)
			}
		})
	}
	if _, err := seal.Import(strings.NewReader("hello"), seal.Identity{}); err == nil {
		t.Error("a text was imported")
	}
}
