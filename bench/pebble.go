package main

import (
	"fmt"
	"iter"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

type pebbleEngine struct {
	db  *pebble.DB
	dir string
}

// silent keeps quiet, and ends the program where Pebble asks for that.
type silent struct{}

func (silent) Infof(string, ...any)           {}
func (silent) Errorf(string, ...any)          {}
func (silent) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }

func openPebble(dir string, _ int) (engine, error) {
	db, err := pebble.Open(filepath.Join(dir, "db"), &pebble.Options{
		Logger: silent{}, MemTableSize: 64 << 20, FormatMajorVersion: pebble.FormatNewest})
	return &pebbleEngine{db, dir}, err
}

func (p *pebbleEngine) Put(key string, value []byte) error {
	return p.db.Set([]byte(key), value, pebble.Sync)
}

func (p *pebbleEngine) Get(key string) ([]byte, error) {
	b, closer, err := p.db.Get([]byte(key))
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), b...), closer.Close()
}

func (p *pebbleEngine) Load(pairs iter.Seq2[string, []byte]) error {
	for list := range batches(pairs, 10_000) {
		b := p.db.NewBatch()
		for _, kv := range list {
			if err := b.Set([]byte(kv.key), kv.value, nil); err != nil {
				return err
			}
		}
		if err := b.Commit(pebble.Sync); err != nil {
			return err
		}
	}
	return nil
}

func (p *pebbleEngine) Scan() (n int, err error) {
	it, err := p.db.NewIter(nil)
	if err != nil {
		return 0, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		n += min(len(it.Value()), 1)
	}
	return n, it.Close()
}

// Checkpoint flushes what is in memory, and links the files.
func (p *pebbleEngine) Checkpoint() error {
	name := fmt.Sprint("copy-", time.Now().UnixNano())
	if err := p.db.Flush(); err != nil {
		return err
	}
	return p.db.Checkpoint(filepath.Join(p.dir, name), pebble.WithFlushedWAL())
}

func (p *pebbleEngine) Close() error { return p.db.Close() }
