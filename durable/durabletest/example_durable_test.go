package durabletest_test

import (
	"context"
	"fmt"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/durable/durabletest"
)

// bank is the server that is tested.
type bank struct {
	db       *durable.DB
	accounts *durable.Table[string, int]
}

func openBank(fs durable.FS) (*bank, error) {
	b := &bank{accounts: durable.NewTable[string, int]("accounts")}
	var err error
	b.db, _, err = durable.Open(context.Background(), durable.Options{Dir: "/bank", FS: fs}, b.accounts)
	return b, err
}

// pay moves an amount that may be owed.
func (b *bank) pay(from, to string, amount int) error {
	return b.db.Update(context.Background(), func(tx *durable.Tx) error {
		x, _ := b.accounts.Get(tx, from)
		y, _ := b.accounts.Get(tx, to)
		b.accounts.Put(tx, from, x-amount)
		b.accounts.Put(tx, to, y+amount)
		return nil
	})
}

// A test of a server that keeps its state with package durable: whenever the
// power is cut, each payment that was acknowledged is there, and none by half.
func Example() {
	t := stdout{} // in a test: its *testing.T
	begin := func() durabletest.Test {
		begun, acknowledged := 0, 0 // the ledger: payments of 1
		run := func(fs durable.FS) error {
			b, err := openBank(fs)
			if err != nil {
				return err
			}
			defer b.db.Close()
			for range 3 {
				begun++
				if err := b.pay("ann", "bob", 1); err != nil {
					return err
				}
				acknowledged = begun
			}
			return b.db.Checkpoint(context.Background())
		}
		check := func(fs durable.FS) error {
			b, err := openBank(fs)
			if err != nil {
				return err
			}
			defer b.db.Close()
			return b.db.View(context.Background(), func(tx *durable.Tx) error {
				ann, _ := b.accounts.Get(tx, "ann")
				bob, _ := b.accounts.Get(tx, "bob")
				if bob != -ann || bob < acknowledged || bob > begun {
					return fmt.Errorf("ann has %d and bob %d, of %d to %d payments", ann, bob, acknowledged, begun)
				}
				begun, acknowledged = bob, bob // what was seen stays
				return nil
			})
		}
		return durabletest.Test{Run: run, Check: check}
	}
	r := durabletest.Crash(t, durabletest.Options{Cuts: 50}, begin)
	fmt.Println("failed:", r.Failed)
	// Output:
	// failed: 0
}
