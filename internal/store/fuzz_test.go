package store

import (
	"bytes"
	"testing"

	"github.com/wakepoint/wakepoint/internal/seal"
)

// FuzzManifest decodes manifests that have a right checksum, so that what
// comes after it is reached.
func FuzzManifest(f *testing.F) {
	m := &manifest{
		Generation: 3, Parent: 2, Epoch: 1, Meta: map[string]string{"a": "b"},
		Packs:    []packUse{{Pack: packID(1, 0), Size: 9000, Live: 4108}},
		Blobs:    []blobRef{{Name: "b", Inline: []byte("x")}},
		Sections: []sectionRef{{Name: "s", Pages: 1, Root: []frameRef{{ID: make([]byte, identitySize), Pack: packID(1, 0), Off: packHeadSize, Size: 50}}}},
	}
	payload, err := encodeCBOR(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Add([]byte{0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) // an array of 1<<64-1
	f.Add(bytes.Repeat([]byte{0x81}, 1000))                             // arrays in arrays
	f.Fuzz(func(t *testing.T, payload []byte) {
		m, err := decodeManifest(enclose(fuzzKeys, magicManifest, "g3", payload), fuzzKeys, 3)
		if err != nil {
			return
		}
		// What is accepted is usable, and encodes to what decodes to it again.
		for i := range m.Sections {
			m.Sections[i].root()
		}
		for _, b := range m.Blobs {
			for _, p := range b.Pieces {
				p.entry()
			}
		}
		m.info()
		b, err := encodeManifest(fuzzKeys, m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeManifest(b, fuzzKeys, 3); err != nil {
			t.Fatal(err)
		}
	})
}

// fuzzKeys are what everything here is sealed with.
var fuzzKeys = keyring{root: seal.Key{1}, store: [16]byte{2}, workload: workloadID{3}}

// FuzzRecord decodes whole files: what is not just what was written does not
// pass, whatever its lengths say.
func FuzzRecord(f *testing.F) {
	whole := enclose(fuzzKeys, magicRecord, "policy", []byte("text"))
	f.Add(whole)
	f.Add(enclose(fuzzKeys, magicManifest, "policy", nil))
	f.Add(enclose(keyring{}, magicRecord, "policy", []byte("text")))
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, _, err := disclose(fuzzKeys.root, magicRecord, "policy", b)
		if err == nil && string(payload) != "text" {
			t.Fatalf("read %q", payload)
		}
	})
}

// FuzzCopies decodes what stands in a frame of copies.
func FuzzCopies(f *testing.F) {
	f.Add([]byte{})
	f.Add(append(make([]byte, 12), 2, 0, 0, 0, 'a', 'b'))
	f.Add(append(make([]byte, 12), 255, 255, 255, 255))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		_, err := eachCopy(b, func(_ place, c []byte) bool {
			n += copyHead + len(c)
			return true
		})
		if err == nil && n != len(b) {
			t.Fatalf("%d bytes of %d", n, len(b))
		}
	})
}

// FuzzPayload decodes payloads: never more than the limit, and no more memory.
func FuzzPayload(f *testing.F) {
	page := bytes.Repeat([]byte("page"), PageSize/4)
	z, err := newZstd()
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range []payload{encodeS2(nil, page), encodeZstd(z, page), {codecRaw, page}} {
		f.Add(p.codec, p.data)
	}
	f.Fuzz(func(t *testing.T, codec byte, b []byte) {
		var d decoder
		out, err := d.append(nil, payload{codec % (codecZstd + 1), b}, PageSize)
		if len(out) > PageSize || err != nil && len(out) > 0 {
			t.Fatalf("%d bytes: %v", len(out), err)
		}
	})
}

// FuzzNode accepts nothing that would not be written.
func FuzzNode(f *testing.F) {
	n := &node{level: 1, mask: 0x8003}
	n.e[0].place = place{packID(1, 0), 64, 100}
	n.e[1].place = place{packID(3, 1), 64, 100}
	n.e[15].place = place{packID(1, 0), 1 << 20, 65535}
	f.Add(encodeNode(n))
	leaf := &node{mask: 2}
	leaf.e[1] = entry{identity{1}, place{packID(1<<40, 3), 64, 100}}
	f.Add(encodeNode(leaf))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeNode(b)
		if err == nil && !bytes.Equal(encodeNode(n), b) {
			t.Fatal("two encodings of one node")
		}
	})
}

// FuzzFrame accepts nothing that was not written.
func FuzzFrame(f *testing.F) {
	head, s := encodePackHead(fuzzKeys, packID(1, 2), [16]byte{3})
	at := uint32(len(head))
	f.Add(s.appendFrame(nil, at, 1, kindPage, payload{codecRaw, make([]byte, PageSize)}))
	f.Add(s.appendFrame(nil, at, 2, kindNode, payload{codecS2, nil}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := s.openFrame(nil, b, at, kindPage)
		if err == nil && !bytes.Equal(s.appendFrame(nil, at, 1, kindPage, p), b) {
			t.Fatal("two encodings of one frame")
		}
	})
}

// FuzzPackHead accepts nothing that was not written.
func FuzzPackHead(f *testing.F) {
	head, _ := encodePackHead(fuzzKeys, packID(1, 2), [16]byte{3})
	f.Add(head)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := checkPackHead(b, fuzzKeys, packID(1, 2)); err != nil {
			return
		}
		if !bytes.Equal(b, head) {
			t.Fatal("another header passes")
		}
	})
}
