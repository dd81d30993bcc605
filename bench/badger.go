package main

import (
	"errors"
	"iter"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
)

type badgerEngine struct {
	db  *badger.DB
	dir string
}

func openBadger(dir string, _ int) (engine, error) {
	o := badger.DefaultOptions(filepath.Join(dir, "db")).WithSyncWrites(true).WithLogger(nil)
	db, err := badger.Open(o)
	return &badgerEngine{db, dir}, err
}

func (b *badgerEngine) Put(key string, value []byte) error {
	return b.db.Update(func(tx *badger.Txn) error { return tx.Set([]byte(key), value) })
}

func (b *badgerEngine) Get(key string) (value []byte, err error) {
	return value, b.db.View(func(tx *badger.Txn) error {
		item, err := tx.Get([]byte(key))
		if err != nil {
			return err
		}
		value, err = item.ValueCopy(nil)
		return err
	})
}

func (b *badgerEngine) Load(pairs iter.Seq2[string, []byte]) error {
	w := b.db.NewWriteBatch()
	defer w.Cancel()
	for k, v := range pairs {
		if err := w.Set([]byte(k), append([]byte(nil), v...)); err != nil {
			return err
		}
	}
	return errors.Join(w.Flush(), b.db.Sync())
}

func (b *badgerEngine) Scan() (n int, err error) {
	return n, b.db.View(func(tx *badger.Txn) error {
		it := tx.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			err := it.Item().Value(func(v []byte) error {
				n += min(len(v), 1)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Checkpoint writes a backup.
func (b *badgerEngine) Checkpoint() error {
	f, err := os.Create(filepath.Join(b.dir, "copy"))
	if err != nil {
		return err
	}
	_, err = b.db.Backup(f, 0)
	return errors.Join(err, f.Sync(), f.Close())
}

func (b *badgerEngine) Close() error { return b.db.Close() }
