package store

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Codecs of payloads.
const (
	codecRaw  = 0 // as it is
	codecS2   = 1 // an S2 block
	codecZstd = 2 // a Zstandard frame
)

const (
	// pageEncodedMax is the room that encoding a page wants, s2.MaxEncodedLen.
	pageEncodedMax = PageSize + PageSize/8
	// triesMax is after how many pages in a row that cannot be compressed only
	// one in so many is tried.
	triesMax = 16
)

// gain is by which part of its length a payload must get shorter to be stored
// encoded: what hardly does is not worth decoding.
const gain = 16

// encodeS2 encodes data into buf, which must not overlap it, if that makes it
// shorter.
func encodeS2(buf, data []byte) payload {
	out := s2.Encode(buf[:cap(buf)], data)
	if len(out) > len(data)-len(data)/gain {
		return payload{codecRaw, data}
	}
	return payload{codecS2, out}
}

// encodeZstd is encodeS2 for what will be kept for long.
func encodeZstd(z *zstd.Encoder, data []byte) payload {
	out := z.EncodeAll(data, nil)
	if len(out) > len(data)-len(data)/gain {
		return payload{codecRaw, data}
	}
	return payload{codecZstd, out}
}

var errTooLong = errors.New("payload: too long")

// decoder decodes payloads. One goroutine at a time may use it.
type decoder struct{ z *zstd.Decoder }

// append appends the payload, decoded, to dst, which it makes longer by at
// most limit bytes.
func (d *decoder) append(dst []byte, p payload, limit int) ([]byte, error) {
	switch p.codec {
	case codecRaw:
		if len(p.data) > limit {
			return dst, errTooLong
		}
		return append(dst, p.data...), nil
	case codecS2:
		n, err := s2.DecodedLen(p.data)
		if err != nil {
			return dst, fmt.Errorf("payload: %w", err)
		}
		if n > limit {
			return dst, errTooLong
		}
		at := len(dst)
		dst = grow(dst, n)
		if _, err := s2.Decode(dst[at:at+n], p.data); err != nil {
			return dst[:at], fmt.Errorf("payload: %w", err)
		}
		return dst[:at+n], nil
	}
	if d.z == nil {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*blobPiece))
		if err != nil {
			return dst, err
		}
		d.z = z
	}
	at := len(dst)
	out, err := d.z.DecodeAll(p.data, dst)
	if err != nil {
		return dst[:at], fmt.Errorf("payload: %w", err)
	}
	if len(out)-at > limit {
		return dst[:at], errTooLong
	}
	return out, nil
}

// grow makes room for n bytes behind b.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b[:len(b)+n]
	}
	return append(b, make([]byte, n)...)
}
