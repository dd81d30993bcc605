package durable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"
)

// A Codec turns values of one type into bytes and back. It may be used from any
// goroutine.
type Codec[T any] interface {
	// Name is written into the file of every table that uses the codec, and must
	// change when its bytes mean something else: a table is not opened with a
	// codec of another name.
	Name() string
	// Append adds the bytes of v to dst.
	Append(dst []byte, v T) ([]byte, error)
	// Decode reads what Append added. What it returns does not refer to b.
	Decode(b []byte) (T, error)
}

// errCodec says that bytes are not what a codec writes.
var errCodec = errors.New("malformed")

// KeyOf returns a codec for keys whose bytes are in the order of the keys:
// strings and byte slices, integers of all sizes and floating-point numbers, also
// as types with a name of their own, and time.Time itself, of which the instant
// counts and the location is lost. It is an error for any other type.
func KeyOf[K any]() (Codec[K], error) {
	t := reflect.TypeFor[K]()
	if t == reflect.TypeFor[time.Time]() {
		return any(timeKey{}).(Codec[K]), nil
	}
	switch t.Kind() {
	case reflect.String:
		return stringKey[K]{}, nil
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return bytesKey[K]{}, nil
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return intKey[K]{size(t)}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return uintKey[K]{size(t)}, nil
	case reflect.Float32, reflect.Float64:
		return floatKey[K]{}, nil
	}
	return nil, fmt.Errorf("keys of type %v have no codec that keeps their order: give one with WithKeys", t)
}

// size is that of an integer in bytes; int and uint count as they do on 64-bit
// machines, so that a file can be read on others.
func size(t reflect.Type) int {
	switch t.Kind() {
	case reflect.Int, reflect.Uint, reflect.Uintptr:
		return 8
	}
	return int(t.Size())
}

type stringKey[K any] struct{}

func (stringKey[K]) Name() string { return "string" }

func (stringKey[K]) Append(dst []byte, k K) ([]byte, error) {
	return append(dst, reflect.ValueOf(&k).Elem().String()...), nil
}

func (stringKey[K]) Decode(b []byte) (k K, err error) {
	reflect.ValueOf(&k).Elem().SetString(string(b))
	return k, nil
}

type bytesKey[K any] struct{}

func (bytesKey[K]) Name() string { return "bytes" }

func (bytesKey[K]) Append(dst []byte, k K) ([]byte, error) {
	return append(dst, reflect.ValueOf(&k).Elem().Bytes()...), nil
}

func (bytesKey[K]) Decode(b []byte) (k K, err error) {
	reflect.ValueOf(&k).Elem().SetBytes(append([]byte{}, b...))
	return k, nil
}

// tail appends the last n bytes of u in big endian.
func tail(dst []byte, u uint64, n int) []byte {
	return append(dst, binary.BigEndian.AppendUint64(nil, u)[8-n:]...)
}

// untail reads what tail appended.
func untail(b []byte, n int) (uint64, error) {
	if len(b) != n {
		return 0, fmt.Errorf("%d bytes, not %d: %w", len(b), n, errCodec)
	}
	var p [8]byte
	copy(p[8-n:], b)
	return binary.BigEndian.Uint64(p[:]), nil
}

type intKey[K any] struct{ size int }

func (c intKey[K]) Name() string { return fmt.Sprint("int", c.size*8) }

func (c intKey[K]) Append(dst []byte, k K) ([]byte, error) {
	sign := uint64(1) << (c.size*8 - 1)
	return tail(dst, uint64(reflect.ValueOf(&k).Elem().Int())^sign, c.size), nil
}

func (c intKey[K]) Decode(b []byte) (k K, err error) {
	u, err := untail(b, c.size)
	if err != nil {
		return k, err
	}
	up := 64 - c.size*8
	n := int64((u^1<<(c.size*8-1))<<up) >> up
	v := reflect.ValueOf(&k).Elem()
	if v.OverflowInt(n) {
		return k, fmt.Errorf("%d is too large here: %w", n, errCodec)
	}
	v.SetInt(n)
	return k, nil
}

type uintKey[K any] struct{ size int }

func (c uintKey[K]) Name() string { return fmt.Sprint("uint", c.size*8) }

func (c uintKey[K]) Append(dst []byte, k K) ([]byte, error) {
	return tail(dst, reflect.ValueOf(&k).Elem().Uint(), c.size), nil
}

func (c uintKey[K]) Decode(b []byte) (k K, err error) {
	u, err := untail(b, c.size)
	if err != nil {
		return k, err
	}
	v := reflect.ValueOf(&k).Elem()
	if v.OverflowUint(u) {
		return k, fmt.Errorf("%d is too large here: %w", u, errCodec)
	}
	v.SetUint(u)
	return k, nil
}

// floatKey keeps the order of numbers: a negative one has all its bits turned,
// any other its sign. What is not a number comes first or last.
type floatKey[K any] struct{}

func (floatKey[K]) Name() string { return "float64" }

func (floatKey[K]) Append(dst []byte, k K) ([]byte, error) {
	u := math.Float64bits(reflect.ValueOf(&k).Elem().Float() + 0) // -0 is the same number as 0
	if u>>63 != 0 {
		u = ^u
	} else {
		u |= 1 << 63
	}
	return tail(dst, u, 8), nil
}

func (floatKey[K]) Decode(b []byte) (k K, err error) {
	u, err := untail(b, 8)
	if err != nil {
		return k, err
	}
	if u>>63 != 0 {
		u &^= 1 << 63
	} else {
		u = ^u
	}
	reflect.ValueOf(&k).Elem().SetFloat(math.Float64frombits(u))
	return k, nil
}

// timeKey is seconds since 1970 (8 bytes) and nanoseconds (4).
type timeKey struct{}

func (timeKey) Name() string { return "time" }

func (timeKey) Append(dst []byte, t time.Time) ([]byte, error) {
	dst = tail(dst, uint64(t.Unix())^1<<63, 8)
	return tail(dst, uint64(t.Nanosecond()), 4), nil
}

func (timeKey) Decode(b []byte) (time.Time, error) {
	if len(b) != 12 {
		return time.Time{}, fmt.Errorf("%d bytes, not 12: %w", len(b), errCodec)
	}
	sec, _ := untail(b[:8], 8)
	nsec, _ := untail(b[8:], 4)
	if nsec >= 1e9 {
		return time.Time{}, fmt.Errorf("%d ns: %w", nsec, errCodec)
	}
	return time.Unix(int64(sec^1<<63), int64(nsec)).UTC(), nil
}
