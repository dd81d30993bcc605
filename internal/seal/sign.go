package seal

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// SigningKey returns what signs files that leave this machine: Ed25519 with
// the seed Derive("sign").
func (k Key) SigningKey() ed25519.PrivateKey {
	seed := k.Derive("sign")
	return ed25519.NewKeyFromSeed(seed[:])
}

// Signer is who signs: an Ed25519 public key, which is its own fingerprint.
type Signer [ed25519.PublicKeySize]byte

// SignerOf returns who signs with a key.
func SignerOf(k Key) Signer { return Signer(k.SigningKey().Public().(ed25519.PublicKey)) }

// String returns the fingerprint: 64 hexadecimal digits.
func (s Signer) String() string { return hex.EncodeToString(s[:]) }

// ErrSigner says that a text is no fingerprint, or a file no list of them.
var ErrSigner = errors.New("not a fingerprint: 64 hexadecimal digits")

// ParseSigner reads a fingerprint.
func ParseSigner(text string) (Signer, error) {
	b, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) != len(Signer{}) {
		return Signer{}, fmt.Errorf("%q: %w", text, ErrSigner)
	}
	return Signer(b), nil
}

// trustedMax bounds a list of signers, in bytes.
const trustedMax = 1 << 20

// Trusted reads the list of signers in a file: a fingerprint on each line,
// and anything behind a #. No file is an empty list. It refuses one that
// another user owns, or that others may read or write (ErrExposed).
func Trusted(d disk.FS, file string) ([]Signer, error) {
	text, err := readTrusted(d, file)
	if err != nil {
		return nil, err
	}
	list, err := parseTrusted(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return list, nil
}

func parseTrusted(text []byte) (list []Signer, err error) {
	for line := range bytes.Lines(text) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		s, err := ParseSigner(string(line))
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func readTrusted(d disk.FS, file string) ([]byte, error) {
	switch err := d.Private(file); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, disk.ErrNotPrivate):
		return nil, fmt.Errorf("%w: %w", err, ErrExposed)
	case err != nil:
		return nil, err
	}
	return disk.ReadFile(d, file, trustedMax)
}

// Trust adds a signer to the list in a file, durably.
func Trust(d disk.FS, file string, s Signer) error {
	dir := filepath.Dir(file)
	if err := disk.MkdirAll(d, dir); err != nil {
		return err
	}
	l, err := d.Lock(dir, disk.ExclusiveWait)
	if err != nil {
		return err
	}
	defer l.Close()
	list, err := Trusted(d, file)
	if err != nil || slices.Contains(list, s) {
		return err
	}
	text, err := readTrusted(d, file)
	if err != nil {
		return err
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	return disk.WriteFile(d, file, append(text, s.String()+"\n"...))
}
