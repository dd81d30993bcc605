package image

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Encode encodes t deterministically: the same tree gives the same bytes
// (RFC 8949, section 4.2.1).
func Encode(t *Tree) ([]byte, error) {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	return m.Marshal(t)
}

// NewerError says that an image holds something that this program does not
// know: what it does not know it would lose.
type NewerError struct {
	Err error
}

func (e *NewerError) Error() string { return "made by a newer wakepoint: " + e.Err.Error() }

func (e *NewerError) Unwrap() error { return e.Err }

// Decode decodes a tree. A field that is missing was not known to the program
// that made the image: a field that comes new must mean by its zero value what
// was so before. A field too many, or a higher version, is a *NewerError. Its
// memory is bounded by a multiple of len(b).
func Decode(b []byte) (*Tree, error) {
	m, err := cbor.DecOptions{
		MaxArrayElements: 1 << 20, MaxMapPairs: 1 << 12, MaxNestedLevels: 32,
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8DecodeInvalid, // names and paths are bytes, not text
	}.DecMode()
	if err != nil {
		return nil, err
	}
	t := new(Tree)
	if err := m.Unmarshal(b, t); err != nil {
		if unknown := new(cbor.UnknownFieldError); errors.As(err, &unknown) {
			err = &NewerError{err}
		}
		return nil, fmt.Errorf("decode image: %w", err)
	}
	if t.Version != Version {
		err := fmt.Errorf("version %d, this program reads %d", t.Version, Version)
		if t.Version > Version {
			err = &NewerError{err}
		}
		return nil, fmt.Errorf("decode image: %w", err)
	}
	return t, t.check()
}

// check refuses references that lead nowhere.
func (t *Tree) check() error {
	in := func(i, n int) bool { return i >= -1 && i < n }
	for _, p := range t.Processes {
		if !in(p.Space, len(t.Spaces)) || !in(p.Table, len(t.Tables)) {
			return fmt.Errorf("decode image: process %d refers to what is not there", p.PID)
		}
		if !p.Zombie && (len(p.Threads) == 0 || p.Space < 0 || p.Table < 0) {
			return fmt.Errorf("decode image: process %d is incomplete", p.PID)
		}
	}
	for _, s := range t.Spaces {
		if s.ExeObject < 0 || s.ExeObject > len(t.Objects) {
			return fmt.Errorf("decode image: the executable %s refers to what is not there", s.Exe)
		}
		for _, a := range s.Areas {
			if a.End <= a.Start || !in(a.Object, len(t.Objects)) {
				return fmt.Errorf("decode image: area %#x is wrong", a.Start)
			}
		}
	}
	for _, tb := range t.Tables {
		for _, e := range tb.Entries {
			if e.Description < 0 || e.Description >= len(t.Descriptions) {
				return fmt.Errorf("decode image: descriptor %d refers to what is not there", e.FD)
			}
		}
	}
	for i, d := range t.Descriptions {
		if !in(d.Object, len(t.Objects)) {
			return fmt.Errorf("decode image: description %d refers to what is not there", i)
		}
		for _, w := range d.Epoll {
			if !in(w.Description, len(t.Descriptions)) {
				return fmt.Errorf("decode image: description %d refers to what is not there", i)
			}
		}
	}
	return nil
}
