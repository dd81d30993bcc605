package main

import (
	"context"
	"database/sql"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/wakepoint/wakepoint/durable"
)

type User struct {
	Name   string
	Visits int
}

func visit(ctx context.Context, db *durable.DB, users *durable.Table[string, User], name string) error {
	return db.Update(ctx, func(tx *durable.Tx) error {
		u, _ := users.Get(tx, name)
		users.Put(tx, name, User{name, u.Visits + 1})
		return nil
	})
}

func visitBolt(db *bbolt.DB, name string) error {
	return db.Update(func(tx *bbolt.Tx) error {
		var u User
		b := tx.Bucket([]byte("users"))
		if p := b.Get([]byte(name)); p != nil {
			if err := json.Unmarshal(p, &u); err != nil {
				return err
			}
		}
		p, err := json.Marshal(User{name, u.Visits + 1})
		if err != nil {
			return err
		}
		return b.Put([]byte(name), p)
	})
}

func visitBadger(db *badger.DB, name string) error {
	for {
		err := db.Update(func(txn *badger.Txn) error {
			var u User
			item, err := txn.Get([]byte(name))
			if err == nil {
				err = item.Value(func(p []byte) error { return json.Unmarshal(p, &u) })
			}
			if err != nil && !errors.Is(err, badger.ErrKeyNotFound) {
				return err
			}
			p, err := json.Marshal(User{name, u.Visits + 1})
			if err != nil {
				return err
			}
			return txn.Set([]byte(name), p)
		})
		if !errors.Is(err, badger.ErrConflict) {
			return err
		}
	}
}

func visitSQL(ctx context.Context, db *sql.DB, name string) error {
	_, err := db.ExecContext(ctx, `INSERT INTO users (name, visits) VALUES (?, 1)
		ON CONFLICT (name) DO UPDATE SET visits = visits + 1`, name)
	return err
}

func visitGob(file string, state map[string]User, name string) error {
	state[name] = User{name, state[name].Visits + 1}
	f, err := os.Create(file + ".new")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := gob.NewEncoder(f).Encode(state); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(file+".new", file) // and the directory is to be fsynced
}

func (f *fsm) Apply(l *raft.Log) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := string(l.Data)
	f.state[name] = User{name, f.state[name].Visits + 1}
	return nil
}

// fsm is what raft keeps: also Snapshot and Restore, which read and write all.
type fsm struct {
	mu    sync.Mutex // guards the rest
	state map[string]User
}

func putAll[K, V any](ctx context.Context, db *durable.DB, table *durable.Table[K, V], pairs iter.Seq2[K, V]) error {
	var put func(keys []K, values []V) error
	put = func(keys []K, values []V) error {
		err := db.Update(ctx, func(tx *durable.Tx) error {
			for i, k := range keys {
				table.Put(tx, k, values[i])
			}
			return nil
		})
		if n := len(keys) / 2; n > 0 && errors.Is(err, durable.ErrTooLarge) { // a transaction has 16 MiB at most
			if err = put(keys[:n], values[:n]); err == nil {
				err = put(keys[n:], values[n:])
			}
		}
		return err
	}
	var keys []K
	var values []V
	for k, v := range pairs { // not in a closure of Update, which everybody else would wait for
		if keys, values = append(keys, k), append(values, v); len(keys) == 1000 {
			if err := put(keys, values); err != nil {
				return err
			}
			keys, values = nil, nil
		}
	}
	return put(keys, values)
}

func fromBolt(ctx context.Context, old *bbolt.DB, bucket string, db *durable.DB, table *durable.Table[string, []byte]) error {
	return old.View(func(tx *bbolt.Tx) error {
		return putAll(ctx, db, table, func(yield func(string, []byte) bool) {
			c := tx.Bucket([]byte(bucket)).Cursor()
			for k, v := c.First(); k != nil && yield(string(k), v); k, v = c.Next() {
			}
		})
	})
}

func fromBadger(ctx context.Context, old *badger.DB, db *durable.DB, table *durable.Table[string, []byte]) error {
	return old.View(func(txn *badger.Txn) (err error) {
		perr := putAll(ctx, db, table, func(yield func(string, []byte) bool) {
			it := txn.NewIterator(badger.DefaultIteratorOptions)
			defer it.Close()
			for it.Rewind(); it.Valid(); it.Next() {
				var v []byte
				if v, err = it.Item().ValueCopy(nil); err != nil || !yield(string(it.Item().Key()), v) {
					return
				}
			}
		})
		if err == nil {
			err = perr
		}
		return err
	})
}

func fromSQL(ctx context.Context, old *sql.DB, db *durable.DB, users *durable.Table[int64, User]) error {
	rows, err := old.QueryContext(ctx, "SELECT id, name, visits FROM users")
	if err != nil {
		return err
	}
	defer rows.Close()
	perr := putAll(ctx, db, users, func(yield func(int64, User) bool) {
		for rows.Next() {
			var id int64
			var u User
			if err = rows.Scan(&id, &u.Name, &u.Visits); err != nil || !yield(id, u) {
				return
			}
		}
		err = rows.Err()
	})
	if err == nil {
		err = perr
	}
	return err
}

func fromGob(ctx context.Context, old io.Reader, db *durable.DB, users *durable.Table[string, User]) error {
	var state map[string]User
	if err := gob.NewDecoder(old).Decode(&state); err != nil {
		return err
	}
	return putAll(ctx, db, users, maps.All(state))
}

func fromRaft(ctx context.Context, dir string, db *durable.DB, users *durable.Table[string, User]) error {
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, 1, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	list, err := snapshots.List() // the newest first
	if err != nil || len(list) == 0 {
		return fmt.Errorf("no snapshot in %s: %w", dir, err)
	}
	_, r, err := snapshots.Open(list[0].ID)
	if err != nil {
		return err
	}
	defer r.Close()
	return fromGob(ctx, r, db, users) // as your FSM.Restore reads it
}

const movedN = 2500

func oldUser(i int) User { return User{fmt.Sprint("user", i), i} }

func oldUsers() map[string]User {
	all := map[string]User{}
	for i := range movedN {
		all[fmt.Sprint("user", i)] = oldUser(i)
	}
	return all
}

// moved opens a database, has it filled, and compares what it holds after it was
// opened again.
func moved[K, V any](t *testing.T, fill func(ctx context.Context, db *durable.DB, table *durable.Table[K, V]) error, right func(K, V) bool) {
	t.Helper()
	o, ctx := durable.Options{Dir: t.TempDir()}, context.Background()
	table := durable.NewTable[K, V]("users")
	db, _, err := durable.Open(ctx, o, table)
	if err != nil {
		t.Fatal(err)
	}
	if err := fill(ctx, db, table); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, _, err = durable.Open(ctx, o, table); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	n := 0
	if err := db.View(ctx, func(tx *durable.Tx) error {
		for k, v := range table.All(tx) {
			if n++; !right(k, v) {
				t.Errorf("%v is %v", k, v)
			}
		}
		return nil
	}); err != nil || n != movedN {
		t.Errorf("%d pairs of %d: %v", n, movedN, err)
	}
}

func sameKey(k string, v []byte) bool { return k == "user"+string(v) }
func sameUser(k string, u User) bool  { return k == u.Name && u == oldUser(u.Visits) }
func fatal(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestFrom: what doc/durable-from.md says about moving over does it.
func TestFrom(t *testing.T) {
	t.Run("bbolt", func(t *testing.T) {
		old, err := bbolt.Open(filepath.Join(t.TempDir(), "old.db"), 0o600, nil)
		fatal(t, err, old.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket([]byte("users"))
			for i := 0; i < movedN && err == nil; i++ {
				err = b.Put(fmt.Append(nil, "user", i), fmt.Append(nil, i))
			}
			return err
		}))
		defer old.Close()
		moved(t, func(ctx context.Context, db *durable.DB, table *durable.Table[string, []byte]) error {
			return fromBolt(ctx, old, "users", db, table)
		}, sameKey)
	})
	t.Run("badger", func(t *testing.T) {
		old, err := badger.Open(badger.DefaultOptions(t.TempDir()).WithLogger(nil))
		fatal(t, err)
		defer old.Close()
		b := old.NewWriteBatch()
		for i := range movedN {
			fatal(t, b.Set(fmt.Append(nil, "user", i), fmt.Append(nil, i)))
		}
		fatal(t, b.Flush())
		moved(t, func(ctx context.Context, db *durable.DB, table *durable.Table[string, []byte]) error {
			return fromBadger(ctx, old, db, table)
		}, sameKey)
	})
	t.Run("sqlite", func(t *testing.T) {
		old, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "old.sqlite"))
		fatal(t, err)
		defer old.Close()
		_, err = old.Exec("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, visits INTEGER)")
		fatal(t, err)
		tx, err := old.Begin()
		fatal(t, err)
		for i := range movedN {
			_, err := tx.Exec("INSERT INTO users VALUES (?, ?, ?)", i, oldUser(i).Name, i)
			fatal(t, err)
		}
		fatal(t, tx.Commit())
		moved(t, func(ctx context.Context, db *durable.DB, table *durable.Table[int64, User]) error {
			return fromSQL(ctx, old, db, table)
		}, func(id int64, u User) bool { return u == oldUser(int(id)) })
	})
	t.Run("gob", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "old.gob")
		f, err := os.Create(file)
		fatal(t, err, gob.NewEncoder(f).Encode(oldUsers()), f.Close())
		f, err = os.Open(file)
		fatal(t, err)
		defer f.Close()
		moved(t, func(ctx context.Context, db *durable.DB, table *durable.Table[string, User]) error {
			return fromGob(ctx, f, db, table)
		}, sameUser)
	})
	t.Run("raft", func(t *testing.T) {
		dir := t.TempDir()
		old, err := raft.NewFileSnapshotStoreWithLogger(dir, 1, hclog.NewNullLogger())
		fatal(t, err)
		_, transport := raft.NewInmemTransport("one")
		sink, err := old.Create(raft.SnapshotVersionMax, 7, 1, raft.Configuration{}, 1, transport)
		fatal(t, err, gob.NewEncoder(sink).Encode(oldUsers()), sink.Close())
		moved(t, func(ctx context.Context, db *durable.DB, table *durable.Table[string, User]) error {
			return fromRaft(ctx, dir, db, table)
		}, sameUser)
	})
}

// TestPutAllLarge: pairs of which a thousand are more than a transaction holds are
// moved, too, and one that is too large for any is told of.
func TestPutAllLarge(t *testing.T) {
	ctx, table := context.Background(), durable.NewTable[int, []byte]("large")
	db, _, err := durable.Open(ctx, durable.Options{Dir: t.TempDir()}, table)
	fatal(t, err)
	defer db.Close()
	const n = 5000
	pairs := func(yield func(int, []byte) bool) {
		for i := 0; i < n && yield(i, make([]byte, 20<<10)); i++ {
		}
	}
	fatal(t, putAll(ctx, db, table, pairs))
	got := 0
	fatal(t, db.View(ctx, func(tx *durable.Tx) error {
		for k, v := range table.All(tx) {
			if k == got && len(v) == 20<<10 {
				got++
			}
		}
		return nil
	}))
	if got != n {
		t.Errorf("%d of %d", got, n)
	}
	huge := maps.All(map[int][]byte{-1: make([]byte, durable.TransactionMax)})
	if err := putAll(ctx, db, table, huge); !errors.Is(err, durable.ErrTooLarge) {
		t.Error(err)
	}
}

// TestVisit: the idioms on the page do what they should, each twice.
func TestVisit(t *testing.T) {
	const name = "ann"
	ctx, dir := context.Background(), t.TempDir()
	users := durable.NewTable[string, User]("users")
	db, _, err := durable.Open(ctx, durable.Options{Dir: filepath.Join(dir, "durable")}, users)
	fatal(t, err)
	defer db.Close()
	bolt, err := bbolt.Open(filepath.Join(dir, "bolt"), 0o600, nil)
	fatal(t, err, bolt.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("users")); return err }))
	defer bolt.Close()
	badgerDB, err := badger.Open(badger.DefaultOptions(filepath.Join(dir, "badger")).WithLogger(nil))
	fatal(t, err)
	defer badgerDB.Close()
	lite, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "sqlite"))
	fatal(t, err)
	defer lite.Close()
	_, err = lite.Exec("CREATE TABLE users (name TEXT PRIMARY KEY, visits INTEGER)")
	fatal(t, err)
	state, f := map[string]User{}, &fsm{state: map[string]User{}}
	for range 2 {
		f.Apply(&raft.Log{Data: []byte(name)})
		fatal(t, visit(ctx, db, users, name), visitBolt(bolt, name), visitBadger(badgerDB, name), visitSQL(ctx, lite, name),
			visitGob(filepath.Join(dir, "gob"), state, name))
	}
	want, n := User{name, 2}, 0
	got := map[string]User{"gob": state[name], "raft": f.state[name]}
	var inBolt, inBadger []byte
	fatal(t, lite.QueryRow("SELECT visits FROM users WHERE name = ?", name).Scan(&n),
		db.View(ctx, func(tx *durable.Tx) error { got["durable"], _ = users.Get(tx, name); return nil }),
		bolt.View(func(tx *bbolt.Tx) error {
			inBolt = append(inBolt, tx.Bucket([]byte("users")).Get([]byte(name))...)
			return nil
		}),
		badgerDB.View(func(txn *badger.Txn) error {
			item, err := txn.Get([]byte(name))
			if err == nil {
				inBadger, err = item.ValueCopy(nil)
			}
			return err
		}))
	got["sqlite"] = User{name, n}
	for _, p := range [][]byte{inBolt, inBadger} {
		var u User
		fatal(t, json.Unmarshal(p, &u))
		got[string(p)] = u
	}
	for what, u := range got {
		if u != want {
			t.Errorf("%s: %v", what, u)
		}
	}
}

// TestFromPage: the functions on the page are those that were tried here.
func TestFromPage(t *testing.T) {
	page, err := os.ReadFile("../doc/durable-from.md")
	fatal(t, err)
	tried, err := os.ReadFile("from_test.go")
	fatal(t, err)
	found := 0
	for i, block := range strings.Split(string(page), "```") {
		code, isGo := strings.CutPrefix(block, "go\n")
		if i%2 == 0 || !isGo || !strings.HasPrefix(code, "func ") {
			continue
		}
		if found++; !strings.Contains(string(tried), code) {
			t.Errorf("this was not tried:\n%s", code)
		}
	}
	if found != 12 {
		t.Errorf("%d functions", found)
	}
}
