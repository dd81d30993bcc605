package api

import (
	"fmt"
	"strings"
)

// passedMax bounds the generations that are named in a sentence.
const passedMax = 3

// passedWords says what was passed over.
func passedWords(list []PassedOver) string {
	if len(list) == 0 {
		return ""
	}
	var words []string
	for _, p := range list[:min(len(list), passedMax)] {
		words = append(words, p.Generation+" ("+p.Why+")")
	}
	if n := len(list) - passedMax; n > 0 {
		words = append(words, fmt.Sprintf("%d more", n))
	}
	return "; passed over " + strings.Join(words, ", ")
}

// Restored says what a restore has cost; after a crash also the work that was
// lost.
func (r *Recovery) Restored(crash bool) string {
	s := "restored from " + r.Generation
	if crash {
		s += fmt.Sprintf(", lost at most %.1f s", r.LostWorkSeconds)
	}
	switch r.Resets {
	case 0:
	case 1:
		s += ", 1 TCP connection reset"
	default:
		s += fmt.Sprintf(", %d TCP connections reset", r.Resets)
	}
	return s + passedWords(r.PassedOver)
}
