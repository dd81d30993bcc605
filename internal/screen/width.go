package screen

import (
	"unicode"

	"golang.org/x/text/width"
)

// widthOf is how many columns a character takes, as wcwidth(3) says it: each
// character by itself, whatever the next one is.
func widthOf(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case r >= 0x1160 && r <= 0x11ff: // vowels and finals of Hangul
		return 0
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Zl, unicode.Zp):
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}
