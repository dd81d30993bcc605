package store

import (
	"bytes"
	"testing"
)

// FuzzManifest decodes manifests that have a right checksum, so that what
// comes after it is reached.
func FuzzManifest(f *testing.F) {
	m := &manifest{
		Workload: make([]byte, 16), Generation: 3, Parent: 2, Epoch: 1, Meta: map[string]string{"a": "b"},
		Packs:    []packUse{{Pack: packID(1, 0), Size: 9000, Live: 4108}},
		Blobs:    []blobRef{{Name: "b", Inline: []byte("x")}},
		Sections: []sectionRef{{Name: "s", Pages: 1, Root: []frameRef{{ID: make([]byte, 16), Pack: packID(1, 0), Off: 64, Size: 50}}}},
	}
	payload, err := encodeCBOR(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Add([]byte{0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) // an array of 1<<64-1
	f.Add(bytes.Repeat([]byte{0x81}, 1000))                             // arrays in arrays
	f.Fuzz(func(t *testing.T, payload []byte) {
		m, err := decodeManifest(enclose(magicManifest, "g3", payload), workloadID{}, 3)
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
		b, err := encodeManifest(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeManifest(b, workloadID{}, 3); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzRecord decodes whole files.
func FuzzRecord(f *testing.F) {
	f.Add(enclose(magicRecord, "policy", []byte("text")))
	f.Add(enclose(magicManifest, "policy", nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, err := disclose(magicRecord, "policy", b)
		if err == nil && !bytes.Equal(b, enclose(magicRecord, "policy", payload)) {
			t.Fatal("two encodings of one record")
		}
	})
}

// FuzzNode accepts nothing that would not be written.
func FuzzNode(f *testing.F) {
	n := &node{level: 1, mask: 0x8003}
	n.e[0] = entry{identity{1}, place{packID(1, 0), 64, 100}}
	n.e[1] = entry{identity{2}, place{packID(3, 1), 64, 100}}
	n.e[15] = entry{identity{3}, place{packID(1, 0), 1 << 20, 65535}}
	f.Add(encodeNode(n))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeNode(b)
		if err == nil && !bytes.Equal(encodeNode(n), b) {
			t.Fatal("two encodings of one node")
		}
	})
}

// FuzzFrame accepts nothing that would not be written.
func FuzzFrame(f *testing.F) {
	f.Add(appendFrame(nil, kindPage, make([]byte, PageSize)))
	f.Add(appendFrame(nil, kindNode, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, err := decodeFrame(b, kindPage)
		if err == nil && !bytes.Equal(appendFrame(nil, kindPage, payload), b) {
			t.Fatal("two encodings of one frame")
		}
	})
}

// FuzzPackHead accepts nothing that would not be written.
func FuzzPackHead(f *testing.F) {
	f.Add(encodePackHead(workloadID{1}, packID(1, 2), [16]byte{3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkPackHead(b, workloadID{1}, packID(1, 2)) != nil {
			return
		}
		if !bytes.Equal(b, encodePackHead(workloadID{1}, packID(1, 2), [16]byte(b[40:56]))) {
			t.Fatal("two encodings of one header")
		}
	})
}
