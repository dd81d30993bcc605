package durable

import (
	"bytes"
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// ValueOf returns a codec for values: bytes and strings as they are, anything
// else as CBOR (RFC 8949), structs by their fields or their tags (`cbor:"1,keyasint"`
// makes them small; where a field has no cbor tag, its json tag counts).
//
// Its name says of which kind the type is: a table of structs is not opened as one of
// numbers, but as one of other structs.
//
// What Append takes Decode gives back, and what would not come back, Append
// refuses: a value in a field of an interface with methods, a year of five
// digits. What is in a field of type any comes back as what CBOR makes of it.
func ValueOf[V any]() Codec[V] {
	t := reflect.TypeFor[V]()
	switch {
	case t.Kind() == reflect.String:
		return stringKey[V]{}
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return bytesKey[V]{}
	}
	return cborValue[V]{sure: comesBack(t)}
}

type cborValue[V any] struct {
	sure bool // whatever is encoded can be decoded
}

// The modes can be made of these options, and so there is no error. What one
// takes the other does: strings of any bytes, and as much of anything, as deep, as
// the library can.
var (
	cborEnc, _ = cbor.EncOptions{Time: cbor.TimeRFC3339Nano}.UserBufferEncMode()
	cborDec, _ = cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid, MaxNestedLevels: 65535,
		MaxArrayElements: math.MaxInt32, MaxMapPairs: math.MaxInt32}.DecMode()
)

// Name says what kind of type it is, so that a table of another one is refused;
// fields of a struct may come and go.
func (cborValue[V]) Name() string { return "cbor/" + shape(reflect.TypeFor[V]()) }

// shape is of types whose encodings may mean the same.
func shape(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for _, own := range ownBytes {
		if reflect.PointerTo(t).Implements(own) {
			return "own"
		}
	}
	switch k := t.Kind(); {
	case k >= reflect.Int && k <= reflect.Uintptr:
		return "int"
	case k == reflect.Float32 || k == reflect.Float64:
		return "float"
	case k == reflect.Slice || k == reflect.Array:
		return "list"
	case k == reflect.Interface:
		return "any"
	default: // bool, string, map, struct
		return k.String()
	}
}

func (c cborValue[V]) Append(dst []byte, v V) ([]byte, error) {
	b := bytes.NewBuffer(dst)
	if err := cborEnc.MarshalToBuffer(v, b); err != nil || c.sure {
		return b.Bytes(), err
	}
	if err := cborDec.Unmarshal(b.Bytes()[len(dst):], new(V)); err != nil {
		return nil, fmt.Errorf("it could not be read again: %w", err)
	}
	return b.Bytes(), nil
}

func (cborValue[V]) Decode(b []byte) (v V, err error) {
	err = cborDec.Unmarshal(b, &v)
	return v, err
}

// ownBytes are the interfaces of types that encode themselves.
var ownBytes = []reflect.Type{
	reflect.TypeFor[cbor.Marshaler](), reflect.TypeFor[cbor.Unmarshaler](),
	reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler](),
	reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler](),
}

// comesBack says of a type that each of its values can be decoded once it is
// encoded. Of others that is seen when one is put.
func comesBack(t reflect.Type, above ...reflect.Type) bool {
	if slices.Contains(above, t) { // as deep as it likes
		return false
	}
	for _, own := range ownBytes {
		if reflect.PointerTo(t).Implements(own) {
			return false
		}
	}
	above = append(slices.Clip(above), t)
	switch k := t.Kind(); k {
	case reflect.Slice, reflect.Array, reflect.Pointer:
		return comesBack(t.Elem(), above...)
	case reflect.Map:
		return plain(t.Key().Kind()) && comesBack(t.Key(), above...) && comesBack(t.Elem(), above...)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Anonymous && f.Type.Kind() != reflect.Struct || (f.IsExported() || f.Anonymous) && !comesBack(f.Type, above...) {
				return false
			}
		}
		return true
	default:
		return plain(k)
	}
}

// plain says that a kind is that of numbers, of truth or of strings.
func plain(k reflect.Kind) bool {
	return k >= reflect.Bool && k <= reflect.Float64 && k != reflect.Uintptr || k == reflect.String
}
