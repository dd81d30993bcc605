package durable_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/wakepoint/wakepoint/durable"
)

type user struct {
	Name   string `cbor:"1,keyasint"`
	Visits int    `cbor:"2,keyasint"`
}

// A program is killed and started again: what was acknowledged is there.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "durable")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for range 2 { // twice, as if it were started twice
		users := durable.NewTable[string, user]("users")
		db, recovery, err := durable.Open(ctx, durable.Options{Dir: dir}, users)
		if err != nil {
			log.Fatal(err)
		}
		var u user
		err = db.Update(ctx, func(tx *durable.Tx) error {
			u, _ = users.Get(tx, "ann")
			u.Name, u.Visits = "Ann", u.Visits+1
			users.Put(tx, "ann", u)
			return nil
		})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(u.Name, u.Visits, recovery.Replayed > 0)
		db.Close()
	}
	// Output:
	// Ann 1 false
	// Ann 2 true
}

// open opens a database with a table in a directory that goes with it.
func open(tables ...durable.AnyTable) (db *durable.DB, dir string, end func()) {
	dir, err := os.MkdirTemp("", "durable")
	if err != nil {
		log.Fatal(err)
	}
	db, _, err = durable.Open(context.Background(), durable.Options{Dir: dir}, tables...)
	if err != nil {
		log.Fatal(err)
	}
	return db, dir, func() { db.Close(); os.RemoveAll(dir) }
}

// An error in a closure takes all back that it did.
func ExampleDB_Update() {
	accounts := durable.NewTable[string, int]("accounts")
	db, _, end := open(accounts)
	defer end()
	errPoor := errors.New("not enough")
	move := func(from, to string, n int) error {
		return db.Update(context.Background(), func(tx *durable.Tx) error {
			a, _ := accounts.Get(tx, from)
			b, _ := accounts.Get(tx, to)
			accounts.Put(tx, from, a-n)
			accounts.Put(tx, to, b+n)
			if a < n {
				return errPoor
			}
			return nil
		})
	}
	err := db.Update(context.Background(), func(tx *durable.Tx) error { accounts.Put(tx, "ann", 100); return nil })
	fmt.Println(err, move("ann", "bob", 70), move("ann", "bob", 70))
	db.View(context.Background(), func(tx *durable.Tx) error {
		for name, n := range accounts.All(tx) {
			fmt.Println(name, n)
		}
		return nil
	})
	// Output:
	// <nil> <nil> not enough
	// ann 30
	// bob 70
}

// Keys are in order, times too.
func ExampleTable_Range() {
	events := durable.NewTable[time.Time, string]("events")
	db, _, end := open(events)
	defer end()
	day := func(n int) time.Time { return time.Date(2026, 11, n, 12, 0, 0, 0, time.UTC) }
	err := db.Update(context.Background(), func(tx *durable.Tx) error {
		for _, n := range []int{20, 3, 11, 7} {
			events.Put(tx, day(n), fmt.Sprint("event ", n))
		}
		for when := range events.Range(tx, time.Unix(0, 0), day(7)) { // before the 7th
			events.Delete(tx, when)
		}
		for when, what := range events.Range(tx, day(7), day(20)) {
			fmt.Println(when.Format(time.DateOnly), what)
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// 2026-11-07 event 7
	// 2026-11-11 event 11
	// <nil>
}

// point is a key with a codec of its own: the order is by X, and then by Y.
type point struct{ X, Y uint32 }

type pointKey struct{}

func (pointKey) Name() string { return "point" }

func (pointKey) Append(dst []byte, p point) ([]byte, error) {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(dst, p.X), p.Y), nil
}

func (pointKey) Decode(b []byte) (point, error) {
	if len(b) != 8 {
		return point{}, errors.New("not a point")
	}
	return point{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}, nil
}

func ExampleWithKeys() {
	colours := durable.NewTable("colours", durable.WithKeys[point, string](pointKey{}))
	db, _, end := open(colours)
	defer end()
	err := db.Update(context.Background(), func(tx *durable.Tx) error {
		colours.Put(tx, point{2, 1}, "red")
		colours.Put(tx, point{1, 9}, "blue")
		for p, colour := range colours.All(tx) {
			fmt.Println(p, colour)
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// {1 9} blue
	// {2 1} red
	// <nil>
}

// A backup is a tar archive of a directory that Open opens.
func ExampleDB_Backup() {
	db, _, end := open(durable.NewTable[string, user]("users"))
	defer end()
	var archive bytes.Buffer // a file, or a connection
	err := db.Backup(context.Background(), &archive)
	fmt.Println(err, archive.Len() > 0)
	// Output:
	// <nil> true
}

// A directory is looked at while nobody has it open.
func ExampleInspect() {
	db, dir, end := open(durable.NewTable[string, user]("users"))
	defer end()
	_, err := durable.Inspect(context.Background(), durable.Options{Dir: dir})
	fmt.Println(errors.Is(err, durable.ErrInUse))
	db.Close()
	report, err := durable.Inspect(context.Background(), durable.Options{Dir: dir})
	if err != nil {
		log.Fatal(err)
	}
	for _, t := range report.Tables {
		fmt.Println(t.Name, t.Keys, t.Values, t.Entries)
	}
	fmt.Println(len(report.Damaged))
	// Output:
	// true
	// users string cbor/struct 0
	// 0
}

// order is the state of a job.
type order struct {
	Item    string `cbor:"1,keyasint"`
	Payment string `cbor:"2,keyasint"`
}

// An order takes an item out of the stock, is paid, and sent. Where it cannot be
// paid the item is put back.
func ExampleJob() {
	stock := durable.NewTable[string, int]("stock")
	type work = durable.Work[order]
	take := func(n int) func(context.Context, *work) error {
		return func(ctx context.Context, w *work) error {
			return w.Update(ctx, func(tx *durable.Tx, o *order) error {
				have, _ := stock.Get(tx, o.Item)
				if have < n {
					return errors.New("sold out")
				}
				stock.Put(tx, o.Item, have-n)
				return nil
			})
		}
	}
	put := func(ctx context.Context, w *work) error {
		if !w.Recorded() { // nothing was taken: it was sold out by the time of a second try
			return nil
		}
		return take(-1)(ctx, w)
	}
	pay := func(ctx context.Context, w *work) error {
		if w.ID() == "order-2" {
			return errors.New("no money")
		}
		// Here the bank is asked, under w.Key(): it takes the money once for a key.
		return w.Update(ctx, func(_ *durable.Tx, o *order) error {
			o.Payment = w.Key()
			return nil
		})
	}
	orders := durable.NewJob("order",
		durable.Step[order]{Name: "take", Do: take(1), Undo: put},
		durable.Step[order]{Name: "pay", Do: pay})
	db, _, end := open(stock, orders)
	defer end()

	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error)
	go func() { over <- orders.Run(ctx, db) }()
	err := db.Update(ctx, func(tx *durable.Tx) error {
		stock.Put(tx, "lamp", 7)
		orders.Start(tx, "order-1", order{Item: "lamp"})
		orders.Start(tx, "order-2", order{Item: "lamp"})
		return nil
	})
	fmt.Println(err)
	for _, id := range []string{"order-1", "order-2"} {
		s, err := orders.Wait(ctx, db, id)
		fmt.Println(id, s.Phase, s.State.Payment, s.Why, err)
	}
	db.View(ctx, func(tx *durable.Tx) error {
		n, _ := stock.Get(tx, "lamp")
		fmt.Println(n, "lamps")
		return nil
	})
	cancel()
	fmt.Println(<-over)
	// Output:
	// <nil>
	// order-1 done order/order-1/1/do  <nil>
	// order-2 undone  no money <nil>
	// 6 lamps
	// context canceled
}
