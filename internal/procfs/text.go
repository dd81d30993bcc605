package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

var (
	errShort  = errors.New("ends too early")
	errNumber = errors.New("not a number")
)

// quoteMax bounds what an error message quotes of a file.
const quoteMax = 64

// badText describes text that a parser could not read.
func badText(text []byte, err error) error {
	return fmt.Errorf("%q: %w", text[:min(len(text), quoteMax)], err)
}

// parseUint is strconv.ParseUint without a sign, prefix or string. Only the
// digits of base 8, 10 or 16 are taken, in either case, and at least one.
func parseUint(b []byte, base uint64) (uint64, bool) {
	var v uint64
	for _, c := range b {
		var d uint64
		switch {
		case c >= '0' && c <= '9':
			d = uint64(c - '0')
		case c >= 'a' && c <= 'f':
			d = uint64(c-'a') + 10
		case c >= 'A' && c <= 'F':
			d = uint64(c-'A') + 10
		default:
			return 0, false
		}
		if d >= base || v > (math.MaxUint64-d)/base {
			return 0, false
		}
		v = v*base + d
	}
	return v, len(b) > 0
}

// parseInt reads a decimal number with an optional minus sign.
func parseInt(b []byte) (int64, bool) {
	if len(b) > 0 && b[0] == '-' {
		v, ok := parseUint(b[1:], 10)
		return -int64(v), ok && v <= 1<<63
	}
	v, ok := parseUint(b, 10)
	return int64(v), ok && v <= math.MaxInt64
}

// cutLine splits text at its first newline; the last line may lack it.
func cutLine(text []byte) (line, rest []byte) {
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		return text[:i], text[i+1:]
	}
	return text, nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

func trimSpace(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// words walks the blank-separated words of a text. The first word that is not
// what was asked for sets err, and everything after it reads as zero.
type words struct {
	rest []byte
	err  error
}

// next returns the next word, empty at the end.
func (w *words) next() []byte {
	b := w.rest
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	i := 0
	for i < len(b) && !isSpace(b[i]) {
		i++
	}
	w.rest = b[i:]
	return b[:i]
}

// more reports whether there is another word.
func (w *words) more() bool {
	w.rest = trimSpace(w.rest)
	return w.err == nil && len(w.rest) > 0
}

func (w *words) fail(word []byte, err error) {
	if w.err != nil {
		return
	}
	if len(word) == 0 {
		err = errShort
	}
	w.err = badText(word, err)
}

// uint returns the next word as a number of the given base.
func (w *words) uint(base uint64) uint64 {
	b := w.next()
	v, ok := parseUint(b, base)
	if !ok {
		w.fail(b, errNumber)
		return 0
	}
	return v
}

// uint32 returns the next word as a number of the given base and 32 bits.
func (w *words) uint32(base uint64) uint32 {
	b := w.next()
	v, ok := parseUint(b, base)
	if !ok || v > math.MaxUint32 {
		w.fail(b, errNumber)
		return 0
	}
	return uint32(v)
}

// int64 returns the next word as a decimal number with a sign.
func (w *words) int64() int64 {
	b := w.next()
	v, ok := parseInt(b)
	if !ok {
		w.fail(b, errNumber)
		return 0
	}
	return v
}

// int returns the next word as a decimal number of the kernel's type int.
func (w *words) int() int {
	b := w.next()
	v, ok := parseInt(b)
	if !ok || v < math.MinInt32 || v > math.MaxInt32 {
		w.fail(b, errNumber)
		return 0
	}
	return int(v)
}

// tagged returns what follows tag, blanks between them or not ("tag:5" and
// "tag: 5"). Another tag is an error.
func (w *words) tagged(tag string) []byte {
	b := w.next()
	if len(b) < len(tag) || string(b[:len(tag)]) != tag {
		w.fail(b, fmt.Errorf("not %q", tag))
		return nil
	}
	if len(b) == len(tag) {
		return w.next()
	}
	return b[len(tag):]
}

// taggedUint is tagged for a number of the given base.
func (w *words) taggedUint(tag string, base uint64) uint64 {
	b := w.tagged(tag)
	v, ok := parseUint(b, base)
	if !ok {
		w.fail(b, errNumber)
		return 0
	}
	return v
}
