// Package generation is what a generation of a workload means to the host: it
// opens one of the store for the engine, puts its files back, and finds what it
// keeps of the programs and libraries that it had mapped.
package generation

import (
	"errors"
	"fmt"
	"os"

	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/store"
)

// keptName is the directory of a workload in which a restore lays out files
// that the host does not have as they were.
const keptName = "kept"

// Reader is a generation of a store as the engine's Source. While it is open
// the generation is not removed.
type Reader struct{ r *store.Reader }

// Open opens a generation of a workload, with the errors of the store.
func Open(w *store.Workload, g store.Generation) (Reader, error) {
	r, err := w.OpenGeneration(g)
	return Reader{r}, err
}

// Blob is that of the store's reader.
func (r Reader) Blob(name string) ([]byte, error) { return r.r.Blob(name) }

// Close lets go of the generation.
func (r Reader) Close() error { return r.r.Close() }

// Section is that of the store's reader.
func (r Reader) Section(name string) (engine.SectionSource, error) {
	s, err := r.r.Section(name)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Index reads the index of a generation's files; nil when it has none.
func Index(r engine.Source) (*files.Index, error) {
	p, err := r.Blob(files.IndexName)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return files.Decode(p)
}

// PutBack makes the workload's files those of the generation, as the
// workload's user.
func PutBack(r engine.Source) (files.Changed, error) {
	return PutBackBeside(r, nil)
}

// Stand makes stand-ins of the generation's files; see files.Stand.
func Stand(r engine.Source, least int64) (*files.StandIns, error) {
	x, err := Index(r)
	if err != nil || x == nil {
		return &files.StandIns{}, err
	}
	s, err := r.Section(files.SectionName)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return files.Stand(x, s, least)
}

// PutBackBeside is PutBack, but for the files that have stand-ins.
func PutBackBeside(r engine.Source, in *files.StandIns) (files.Changed, error) {
	x, err := Index(r)
	if err != nil || x == nil {
		return files.Changed{}, err
	}
	who, err := actorOf(r)
	if err != nil {
		return files.Changed{}, err
	}
	s, err := r.Section(files.SectionName)
	if err != nil {
		return files.Changed{}, err
	}
	defer s.Close()
	return files.PutBackBeside(x, s, who, in)
}

// Kept reads what a generation keeps; os.ErrNotExist when it keeps nothing.
func Kept(r engine.Source) (*files.Kept, error) {
	p, err := r.Blob(files.KeptName)
	if err != nil {
		return nil, err
	}
	return files.DecodeKept(p)
}

// Shelve makes a restore look for what it maps among what is kept. dir is the
// workload's, or that of a dump; home is where it was when the generation was
// made. done, which may be called whatever came of it, ends the use.
func Shelve(r engine.Source, o *engine.RestoreOptions, dir, home string) (done func(restored bool), err error) {
	x, err := Kept(r)
	if errors.Is(err, os.ErrNotExist) {
		return func(bool) {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("what is kept: %w", err)
	}
	s, err := r.Section(files.KeptSection)
	if err != nil {
		return nil, fmt.Errorf("what is kept: %w", err)
	}
	own := []string{dir}
	if home != "" {
		own = append(own, home)
	}
	shelf := files.NewShelf(x, s, dir+"/"+keptName, own...)
	o.Kept = shelf.File
	return func(restored bool) {
		if restored {
			_ = shelf.Tidy() // what is left over is tidied up the next time
		}
		_ = s.Close()
	}, nil
}
