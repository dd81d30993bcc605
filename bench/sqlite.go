package main

import (
	"database/sql"
	"errors"
	"iter"
	"path/filepath"

	_ "modernc.org/sqlite"
)

// sqlite has one connection, as it has one writer.
type sqlite struct {
	db       *sql.DB
	put, get *sql.Stmt
}

func openSQLite(dir string, _ int) (engine, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "db.sqlite")+
		"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=cache_size(-65536)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	s := &sqlite{db: db}
	_, err = db.Exec("CREATE TABLE IF NOT EXISTS items (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID")
	if err == nil {
		s.put, err = db.Prepare("INSERT OR REPLACE INTO items VALUES (?, ?)")
	}
	if err == nil {
		s.get, err = db.Prepare("SELECT v FROM items WHERE k = ?")
	}
	return s, err
}

func (s *sqlite) Put(key string, value []byte) error {
	_, err := s.put.Exec([]byte(key), value)
	return err
}

func (s *sqlite) Get(key string) (value []byte, err error) {
	return value, s.get.QueryRow([]byte(key)).Scan(&value)
}

func (s *sqlite) Load(pairs iter.Seq2[string, []byte]) error {
	for list := range batches(pairs, 100_000) {
		tx, err := s.db.Begin()
		if err != nil {
			return err
		}
		put := tx.Stmt(s.put)
		for _, p := range list {
			if _, err := put.Exec([]byte(p.key), p.value); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

func (s *sqlite) Scan() (n int, err error) {
	return n, s.db.QueryRow("SELECT count(length(v)) FROM items").Scan(&n)
}

// Checkpoint moves the log into the file.
func (s *sqlite) Checkpoint() error {
	_, err := s.db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

func (s *sqlite) Close() error { return s.db.Close() }
