package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// manifest is what a generation is: the CBOR payload of an envelope, see
// doc/format.md. Lists are sorted by id or name, without duplicates.
type manifest struct {
	Generation uint64            `cbor:"generation"`
	Parent     uint64            `cbor:"parent"`
	Epoch      uint64            `cbor:"epoch"`
	Committed  int64             `cbor:"committed"` // ns since 1970
	Pause      int64             `cbor:"pause"`     // ns
	Tag        string            `cbor:"tag"`
	Meta       map[string]string `cbor:"meta"`
	NewBytes   int64             `cbor:"new_bytes"`
	TotalBytes int64             `cbor:"total_bytes"`
	Copies     int               `cbor:"copies"` // packs with second copies
	Packs      []packUse         `cbor:"packs"`
	Blobs      []blobRef         `cbor:"blobs"`
	Sections   []sectionRef      `cbor:"sections"`
}

// packUse is a pack that a generation refers to.
type packUse struct {
	_    struct{} `cbor:",toarray"`
	Pack PackID
	Size int64 // of the file
	Live int64 // bytes of frames that this generation refers to
}

// blobRef is a blob: inline, or in pieces.
type blobRef struct {
	_      struct{} `cbor:",toarray"`
	Name   string
	Inline []byte
	Pieces []frameRef
}

// frameRef is an entry in a manifest.
type frameRef struct {
	_    struct{} `cbor:",toarray"`
	ID   []byte
	Pack PackID
	Off  uint32
	Size uint32
}

// sectionRef is a section. Without pages it has no root.
type sectionRef struct {
	_     struct{} `cbor:",toarray"`
	Name  string
	Level int        // of the root
	Root  []frameRef // one or none
	Pages int64      // present
	Live  []packLive // where its frames lie
}

// packLive counts the bytes of frames in one pack that a section refers to.
type packLive struct {
	_    struct{} `cbor:",toarray"`
	Pack PackID
	Live int64
}

func refOf(e entry) frameRef { return frameRef{ID: e.id[:], Pack: e.pack, Off: e.off, Size: e.size} }

func (r frameRef) entry() entry { return entry{identity(r.ID), place{r.Pack, r.Off, r.Size}} }

func (r frameRef) check() error {
	if len(r.ID) != len(identity{}) || r.Pack.Generation() == 0 || r.Off < packHeadSize {
		return errors.New("bad reference")
	}
	return nil
}

// root returns the root's entry and level; none for an empty section.
func (s *sectionRef) root() (entry, int) {
	if len(s.Root) == 0 {
		return entry{}, 0
	}
	return s.Root[0].entry(), s.Level
}

func (m *manifest) section(name string) *sectionRef {
	i, ok := slices.BinarySearchFunc(m.Sections, name, func(s sectionRef, name string) int { return strings.Compare(s.Name, name) })
	if !ok {
		return nil
	}
	return &m.Sections[i]
}

func (m *manifest) blob(name string) *blobRef {
	i, ok := slices.BinarySearchFunc(m.Blobs, name, func(b blobRef, name string) int { return strings.Compare(b.Name, name) })
	if !ok {
		return nil
	}
	return &m.Blobs[i]
}

func (m *manifest) info() Info {
	sections := make(map[string]int64, len(m.Sections))
	for _, s := range m.Sections {
		sections[s.Name] = s.Pages * PageSize
	}
	return Info{
		Sections:    sections,
		Generation:  Generation(m.Generation),
		Parent:      Generation(m.Parent),
		CommittedAt: time.Unix(0, m.Committed),
		Pause:       time.Duration(m.Pause),
		NewBytes:    m.NewBytes,
		TotalBytes:  m.TotalBytes,
		Tag:         m.Tag,
		Epoch:       m.Epoch,
		Meta:        m.Meta,
	}
}

func encodeManifest(k keyring, m *manifest) ([]byte, error) {
	payload, err := encodeCBOR(m)
	if err != nil {
		return nil, err
	}
	b := enclose(k, magicManifest, Generation(m.Generation).String(), payload)
	if len(b) > envelopeMax {
		return nil, fmt.Errorf("manifest of %d bytes is too large", len(b))
	}
	return b, nil
}

// decodeManifest reads the manifest of generation g of a workload.
func decodeManifest(b []byte, k keyring, g Generation) (*manifest, error) {
	payload, of, err := disclose(k.root, magicManifest, g.String(), b)
	if err != nil {
		return nil, err
	}
	if of != k {
		return nil, errors.New("of another workload")
	}
	return checkManifest(payload, g)
}

func checkManifest(b []byte, g Generation) (*manifest, error) {
	m := new(manifest)
	if err := decodeCBOR(b, m); err != nil {
		return nil, err
	}
	switch {
	case Generation(m.Generation) != g:
		return nil, errors.New("of another generation")
	case m.Parent >= m.Generation:
		return nil, errors.New("parent is not older")
	}
	return m, m.check()
}

// check holds the manifest to what its readers rely on.
func (m *manifest) check() error {
	if m.Copies < 0 || m.Copies > copiesIndex {
		return errors.New("bad number of packs with copies")
	}
	for i, p := range m.Packs {
		if p.Pack.Generation() == 0 || p.Pack.Generation() > Generation(m.Generation) || i > 0 && p.Pack <= m.Packs[i-1].Pack {
			return errors.New("bad list of packs")
		}
		if p.Live < 0 || p.Size < packHeadSize || p.Live > p.Size {
			return fmt.Errorf("pack %v: %d bytes of %d are referred to", p.Pack, p.Live, p.Size)
		}
	}
	for i, b := range m.Blobs {
		if i > 0 && b.Name <= m.Blobs[i-1].Name {
			return errors.New("bad list of blobs")
		}
		for _, p := range b.Pieces {
			if err := p.check(); err != nil || p.Size > blobPiece {
				return errors.New("bad blob")
			}
		}
	}
	for i := range m.Sections {
		s := &m.Sections[i]
		if i > 0 && s.Name <= m.Sections[i-1].Name {
			return errors.New("bad list of sections")
		}
		if s.Level < 0 || s.Level > levelMax || len(s.Root) > 1 || s.Pages < 0 || (s.Pages == 0) != (len(s.Root) == 0) {
			return errors.New("bad section")
		}
		for _, r := range s.Root {
			if err := r.check(); err != nil || r.Size > nodeMax {
				return errors.New("bad root of a section")
			}
		}
		for _, l := range s.Live {
			if l.Live < 0 {
				return errors.New("bad count of live bytes")
			}
		}
	}
	return nil
}
