package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/seal"
)

var nameRule = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)

// CheckName returns an error that matches ErrName unless s may name a workload
// or a record: 1 to 64 of A-Z a-z 0-9 . _ - with neither . nor - in front.
func CheckName(s string) error {
	if !nameRule.MatchString(s) {
		return fmt.Errorf("%q: %w (1 to 64 of A-Z a-z 0-9 . _ -, the first one no . or -)", s, ErrName)
	}
	return nil
}

// readRecord reads the record in a file: fs.ErrNotExist when there is none,
// ErrDamaged when it is not what was written, ErrVersion when a version wrote
// it that this one does not know, ErrKey when it was sealed with another key.
func readRecord(d disk.FS, k keyring, file string) ([]byte, error) {
	payload, of, err := openRecord(d, k.root, file)
	if err == nil && of != k {
		return nil, &DamageError{Pack: file, What: "record: of another workload"}
	}
	return payload, err
}

// openRecord is readRecord for a file of which it is not known whose it is.
func openRecord(d disk.FS, root seal.Key, file string) ([]byte, keyring, error) {
	b, err := disk.ReadFile(d, file, envelopeMax)
	if errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EISDIR) {
		return nil, keyring{}, &DamageError{Pack: file, What: "cannot be read", Err: err}
	}
	if err != nil {
		return nil, keyring{}, err
	}
	base := filepath.Base(file)
	payload, k, err := disclose(root, magicRecord, base, b)
	if errors.Is(err, ErrVersion) || errors.Is(err, ErrKey) {
		return nil, keyring{}, fmt.Errorf("record %s: %w", base, err)
	}
	if err != nil {
		return nil, keyring{}, &DamageError{Pack: file, What: "record: " + err.Error()}
	}
	return payload, k, nil
}

func writeRecord(d disk.FS, k keyring, file string, payload []byte) error {
	if len(payload) > envelopeMax-envelopeOverhead {
		return fmt.Errorf("record %s: %d bytes are too many", filepath.Base(file), len(payload))
	}
	return disk.WriteFile(d, file, enclose(k, magicRecord, filepath.Base(file), payload))
}

// removeTemp removes what a writer that did not finish has left of a record, if
// there is anything.
func removeTemp(d disk.FS, name string) error {
	if _, err := d.Lstat(disk.TempName(name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return d.Remove(disk.TempName(name))
}

// PutRecord stores a small value under a name, in place of the one before.
// When it returns nil the value survives a power cut; when it returns an
// error the record has its old value or the new one. It needs no Lock.
func (w *Workload) PutRecord(name string, data []byte) error {
	if err := CheckName(name); err != nil {
		return fmt.Errorf("put record: %w", err)
	}
	return w.withRecords(func(dir string) error {
		if err := writeRecord(w.fs, w.keys, filepath.Join(dir, name), data); err != nil {
			return fmt.Errorf("put record %s: %w", name, err)
		}
		return nil
	})
}

// Record returns the value of a record: fs.ErrNotExist when there is none,
// ErrDamaged when it is not what was written.
func (w *Workload) Record(name string) ([]byte, error) {
	if err := CheckName(name); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return readRecord(w.fs, w.keys, filepath.Join(w.dir, recordsDir, name))
}

// RemoveRecord removes a record durably. It is no error when there is none.
func (w *Workload) RemoveRecord(name string) error {
	if err := CheckName(name); err != nil {
		return fmt.Errorf("remove record: %w", err)
	}
	return w.withRecords(func(dir string) error {
		if err := w.fs.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove record: %w", err)
		}
		return w.fs.SyncDir(dir)
	})
}

// withRecords calls f while no other process changes the records. Lock order:
// Workload.Lock, then this one.
func (w *Workload) withRecords(f func(dir string) error) error {
	dir := filepath.Join(w.dir, recordsDir)
	if err := disk.MkdirAll(w.fs, dir); err != nil {
		return fmt.Errorf("make records: %w", err)
	}
	l, err := w.fs.Lock(dir, disk.ExclusiveWait)
	if err != nil {
		return err
	}
	defer l.Close()
	return f(dir)
}
