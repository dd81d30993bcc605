package keeper

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/bundle"
	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/hint"
	"github.com/wakepoint/wakepoint/internal/seal"
	"github.com/wakepoint/wakepoint/internal/store"
)

// Exported is what Export has written.
type Exported struct {
	Generation string // "g411"
	Bytes      int64  // of the file
	Signer     string // fingerprint of who signed it: this site
}

// ExportFile is Export to a file, which gets its name when it is whole and on
// the disk. A file of that name is replaced; anything else is refused.
func ExportFile(ctx context.Context, s Site, name, generation, file string) (out Exported, err error) {
	if st, err := os.Lstat(file); err == nil && !st.Mode().IsRegular() {
		return out, api.Errorf(api.CodeUsage, "name a file that does not exist, or - for the standard output", "%s is not a file", file)
	}
	// The order is the promise: contents, name, and only then is anybody told.
	temp, err := disk.CreateTemp(disk.OS{}, file)
	if err != nil {
		return out, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(disk.TempName(file))
		}
	}()
	defer temp.Close()
	if out, err = Export(ctx, s, name, generation, temp); err != nil {
		return out, err
	}
	if err := errors.Join(temp.Sync(), os.Rename(disk.TempName(file), file)); err != nil {
		return out, err
	}
	return out, disk.OS{}.SyncDir(filepath.Dir(file))
}

// Export writes a generation of a workload, the one that it stands on unless
// one is named, with all that a start elsewhere needs, and signs it with the
// site's key. The workload may run meanwhile. What is written is not sealed:
// it holds the program's memory for everybody to read.
func Export(ctx context.Context, s Site, name, generation string, to io.Writer) (Exported, error) {
	s, err := s.filled()
	if err != nil {
		return Exported{}, err
	}
	w, err := s.workload(name)
	if err != nil {
		return Exported{}, err
	}
	rec, err := recordsOf(w, name)
	if err != nil {
		return Exported{}, err
	}
	r, err := openChosen(w, rec, generation)
	if err != nil {
		return Exported{}, hint.Workload(name, err)
	}
	defer r.Close()
	o, err := s.options(false)
	if err != nil {
		return Exported{}, err
	}
	b := bufio.NewWriterSize(to, bundle.RunMax)
	c := &bundle.Target{Context: ctx, File: b}
	err = writeBundle(c, o.Key.SigningKey(), rec, r)
	if err == nil {
		err = b.Flush()
	}
	if err != nil {
		return Exported{}, hint.Workload(name, err)
	}
	return Exported{Generation: r.Info().Generation.String(), Bytes: c.N, Signer: seal.SignerOf(o.Key).String()}, nil
}

// openChosen opens the generation that a person means. The newest may be gone
// by the time that it is opened, when a newer one is.
func openChosen(w *store.Workload, rec records, generation string) (*store.Reader, error) {
	k := &keeper{v: realVault{w}, rec: rec}
	for tries := 3; ; tries-- {
		i, err := k.choose(RestoreOptions{Generation: generation})
		if err != nil {
			return nil, err
		}
		r, err := w.OpenGeneration(i.Generation)
		if !errors.Is(err, store.ErrNotFound) || generation != "" || tries == 0 {
			return r, err
		}
	}
}

// writeBundle writes a generation. What is only of use here stays: pins,
// verdicts, what runs, and the number that an adopted process has.
func writeBundle(to io.Writer, key ed25519.PrivateKey, rec records, r *store.Reader) error {
	i := r.Info()
	b, err := bundle.NewWriter(to, key, time.Now(), bundle.Info{
		Workload: rec.spec.Name, Generation: uint64(i.Generation), Committed: i.CommittedAt.UnixNano(), Pause: int64(i.Pause), Tag: i.Tag, Meta: i.Meta,
	})
	if err != nil {
		return err
	}
	spec := rec.spec
	spec.Adopt, spec.Cut = 0, false
	for _, v := range []struct {
		name string
		of   any
	}{{recordPolicy, rec.policy}, {recordSpec, spec}} {
		p, err := json.Marshal(v.of)
		if err != nil {
			return fmt.Errorf("record %s: %w", v.name, err)
		}
		if err := b.Record(v.name, p); err != nil {
			return err
		}
	}
	for _, name := range r.Blobs() {
		p, err := r.Blob(name)
		if err != nil {
			return err
		}
		if err := b.Blob(name, p); err != nil {
			return err
		}
	}
	for _, name := range r.Sections() {
		if err := writeSection(b, name, r); err != nil {
			return err
		}
	}
	return b.Close()
}

// writeSection writes the pages that a section has, those that lie side by
// side as one run.
func writeSection(b *bundle.Writer, name string, r *store.Reader) error {
	if err := b.Section(name); err != nil {
		return err
	}
	s, err := r.Section(name)
	if err != nil {
		return err
	}
	defer s.Close()
	var from int64
	var run []byte
	flush := func() error {
		if len(run) == 0 {
			return nil
		}
		err := b.Run(from, run)
		run = run[:0]
		return err
	}
	err = s.Each(0, bundle.SectionMax, func(off int64, p []byte) error {
		if off != from+int64(len(run)) || len(run)+len(p) > bundle.RunMax {
			if err := flush(); err != nil {
				return err
			}
			from = off
		}
		run = append(run, p...)
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// trustedFile is the list of the signers whose files are imported; none for a
// site without a key of its own.
func (s Site) trustedFile() string { return s.beside("trusted") }

// ownSigner is who signs here, once there is a key.
func (s Site) ownSigner() (signer seal.Signer, known bool, err error) {
	if s.KeyFile == "" {
		return seal.SignerOf(seal.Key{}), true, nil
	}
	k, err := seal.Load(disk.OS{}, s.KeyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return signer, false, nil
	case err != nil:
		return signer, false, hint.Key(s.KeyFile, err)
	}
	return seal.SignerOf(k), true, nil
}
