package seal

import (
	"strings"
	"testing"
)

// FuzzTrusted reads lists of signers: each comes back as what it was written.
func FuzzTrusted(f *testing.F) {
	a := SignerOf(Key{1}).String()
	f.Add([]byte("# mine\n" + a + " # until May\n\n" + a))
	f.Add([]byte(a[1:]))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseTrusted(text)
		if err != nil && len(list) > 0 {
			t.Fatalf("%d of a list that is none", len(list))
		}
		for _, s := range list {
			if !strings.Contains(strings.ToLower(string(text)), s.String()) {
				t.Fatalf("%v is not in it", s)
			}
		}
	})
}
