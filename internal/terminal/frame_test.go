package terminal

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestFrameRoundTrip(t *testing.T) {
	frames := []struct {
		kind    byte
		payload []byte
	}{
		{kindHello, hello{readOnly: true, size: size{24, 80}}.encode()},
		{kindData, []byte("ls -l\n")},
		{kindData, nil},
		{kindData, bytes.Repeat([]byte("x"), payloadMax)},
		{kindResize, size{50, 132}.encode()},
		{kindDetach, nil},
		{kindEnd, nil},
		{kindEnd, []byte{0, 0, 0x2a, 0}},
	}
	var stream, buf []byte
	for _, f := range frames {
		stream = appendFrame(stream, f.kind, f.payload)
	}
	r := bytes.NewReader(stream)
	for i, f := range frames {
		kind, p, err := readFrame(r, buf)
		if err != nil || kind != f.kind || !bytes.Equal(p, f.payload) {
			t.Fatalf("frame %d: kind %d, %d bytes, %v", i, kind, len(p), err)
		}
		buf = p
	}
	if _, _, err := readFrame(r, buf); err != io.EOF {
		t.Fatalf("after the last frame: %v, want EOF", err)
	}
}

func TestFrameRefused(t *testing.T) {
	for name, in := range map[string][]byte{
		"unknown kind":   {9, 0, 0, 0, 0},
		"huge":           {kindData, 0xff, 0xff, 0xff, 0xff},
		"short resize":   {kindResize, 0, 0, 0, 3, 1, 2, 3},
		"full detach":    {kindDetach, 0, 0, 0, 1, 0},
		"three byte end": {kindEnd, 0, 0, 0, 3, 0, 0, 0},
	} {
		if _, _, err := readFrame(bytes.NewReader(in), nil); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v, want %v", name, err, errFrame)
		}
	}
	whole := appendFrame(nil, kindData, []byte("abc"))
	for cut := 1; cut < len(whole); cut++ {
		if _, _, err := readFrame(bytes.NewReader(whole[:cut]), nil); err != io.ErrUnexpectedEOF {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	if _, err := decodeHello([]byte{2, 0, 0, 0, 0, 0}); err == nil {
		t.Error("a hello of version 2 was taken")
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(appendFrame(nil, kindHello, hello{size: size{24, 80}}.encode()))
	f.Add(appendFrame(appendFrame(nil, kindData, []byte("hi")), kindDetach, nil))
	f.Add([]byte{kindData, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		var buf, again []byte
		for {
			kind, p, err := readFrame(r, buf)
			if err != nil {
				break
			}
			buf = p
			if kind == kindHello {
				if h, err := decodeHello(p); err == nil && !bytes.Equal(h.encode()[2:], p[2:]) {
					t.Fatalf("hello %x became %x", p, h.encode())
				}
			}
			again = appendFrame(again, kind, p)
		}
		if !bytes.HasPrefix(in, again) {
			t.Fatalf("%x was read as %x", in, again)
		}
		if cap(buf) > payloadMax {
			t.Fatalf("%d bytes were kept for %d", cap(buf), len(in))
		}
	})
}
