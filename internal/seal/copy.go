package seal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// A recovery copy is the key encrypted to somebody (age-encryption.org/v1,
// armored), to be kept where the machine is not: the text copyText, the key in
// hexadecimal, and a line feed.
const (
	copyText = "wakepoint key 1 "
	copyMax  = 64 << 10 // bytes of an armored copy
)

// ErrCopy says that a file is no recovery copy of a key, or not for the
// identity or passphrase that was given.
var ErrCopy = errors.New("not a recovery copy of a key for this identity or passphrase")

// Recipient is who can read a recovery copy: "age1...", or a passphrase.
type Recipient struct{ r age.Recipient }

// ParseRecipient reads an age recipient.
func ParseRecipient(s string) (Recipient, error) {
	r, err := age.ParseX25519Recipient(strings.TrimSpace(s))
	if err != nil {
		return Recipient{}, fmt.Errorf("recipient %q: %w", s, err)
	}
	return Recipient{r}, nil
}

// Passphrase is whoever knows it.
func Passphrase(s string) (Recipient, error) {
	r, err := age.NewScryptRecipient(s)
	if err != nil {
		return Recipient{}, fmt.Errorf("passphrase: %w", err)
	}
	return Recipient{r}, nil
}

// Export writes a recovery copy of the key.
func Export(w io.Writer, k Key, to Recipient) error {
	a := armor.NewWriter(w)
	e, err := age.Encrypt(a, to.r)
	if err != nil {
		return fmt.Errorf("export the key: %w", err)
	}
	_, err = fmt.Fprintf(e, "%s%x\n", copyText, k[:])
	if cerr := errors.Join(e.Close(), a.Close()); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("export the key: %w", err)
	}
	return nil
}

// Identity reads recovery copies.
type Identity struct{ list []age.Identity }

// ParseIdentities reads the text of an age identity file.
func ParseIdentities(r io.Reader) (Identity, error) {
	list, err := age.ParseIdentities(r)
	if err != nil {
		return Identity{}, fmt.Errorf("identity: %w", err)
	}
	return Identity{list}, nil
}

// PassphraseIdentity reads copies that were made for a passphrase.
func PassphraseIdentity(s string) (Identity, error) {
	i, err := age.NewScryptIdentity(s)
	if err != nil {
		return Identity{}, fmt.Errorf("passphrase: %w", err)
	}
	return Identity{[]age.Identity{i}}, nil
}

// Import reads a recovery copy; ErrCopy when it is none, or for somebody else.
func Import(r io.Reader, by Identity) (Key, error) {
	d, err := age.Decrypt(armor.NewReader(io.LimitReader(r, copyMax)), by.list...)
	if err != nil {
		return Key{}, fmt.Errorf("import the key: %w: %w", ErrCopy, err)
	}
	text, err := io.ReadAll(io.LimitReader(d, copyMax))
	if err != nil {
		return Key{}, fmt.Errorf("import the key: %w: %w", ErrCopy, err)
	}
	digits, ok := strings.CutPrefix(string(text), copyText)
	b, err := hex.DecodeString(strings.TrimSuffix(digits, "\n"))
	if !ok || err != nil || len(b) != KeySize {
		return Key{}, fmt.Errorf("import the key: %w", ErrCopy)
	}
	return Key(b), nil
}
