package abi

import "testing"

func FuzzRedirect(f *testing.F) {
	f.Add([]byte("\x7fELF"), []byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, old, now []byte) {
		_, _ = AMD64.Redirect(old, now, 0x1000)
	})
}
