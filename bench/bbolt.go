package main

import (
	"errors"
	"iter"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// bolt puts by Batch, which gives up waiting for others when all writers are
// there; one writer alone puts by Update, which is faster for it.
type bolt struct {
	db    *bbolt.DB
	dir   string
	alone bool
}

var boltBucket = []byte("items")

func openBolt(dir string, writers int) (engine, error) {
	db, err := bbolt.Open(filepath.Join(dir, "bolt.db"), 0o644,
		&bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	db.MaxBatchSize, db.MaxBatchDelay = max(writers, 1), time.Millisecond
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(boltBucket)
		return err
	})
	return &bolt{db, dir, writers <= 1}, err
}

func (b *bolt) Put(key string, value []byte) error {
	put := func(tx *bbolt.Tx) error { return tx.Bucket(boltBucket).Put([]byte(key), value) }
	if b.alone {
		return b.db.Update(put)
	}
	return b.db.Batch(put)
}

func (b *bolt) Get(key string) (value []byte, err error) {
	return value, b.db.View(func(tx *bbolt.Tx) error {
		value = append(value, tx.Bucket(boltBucket).Get([]byte(key))...)
		return nil
	})
}

func (b *bolt) Load(pairs iter.Seq2[string, []byte]) error {
	for list := range batches(pairs, 100_000) {
		err := b.db.Update(func(tx *bbolt.Tx) error {
			for _, p := range list {
				if err := tx.Bucket(boltBucket).Put([]byte(p.key), p.value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bolt) Scan() (n int, err error) {
	return n, b.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(boltBucket).ForEach(func(_, value []byte) error {
			n += min(len(value), 1)
			return nil
		})
	})
}

// Checkpoint copies the file: there is no log.
func (b *bolt) Checkpoint() error {
	f, err := os.Create(filepath.Join(b.dir, "copy"))
	if err != nil {
		return err
	}
	err = b.db.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(f)
		return err
	})
	return errors.Join(err, f.Sync(), f.Close())
}

func (b *bolt) Close() error { return b.db.Close() }
