package durable

import (
	"context"
	"testing"
)

// TestScanOwn: a scan sees what its transaction changed, however much that is, in
// order with what was there, and without what it deleted.
func TestScanOwn(t *testing.T) {
	ctx := context.Background()
	numbers := NewTable[int, string]("numbers")
	db, _, err := Open(ctx, Options{Dir: t.TempDir()}, numbers)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const count = 5000
	must(t, db.Update(ctx, func(tx *Tx) error {
		for n := range count {
			if n%3 > 0 {
				numbers.Put(tx, n, "before")
			}
		}
		return nil
	}))
	must(t, db.Update(ctx, func(tx *Tx) error {
		for n := range count {
			switch n % 3 {
			case 0:
				numbers.Put(tx, n, "own")
			case 1:
				numbers.Delete(tx, n)
			}
		}
		n := 0
		for k, v := range numbers.All(tx) {
			if n%3 == 1 {
				n++
			}
			if want := [3]string{"own", "", "before"}[n%3]; k != n || v != want {
				t.Fatalf("%d is %q instead of %d %q", k, v, n, want)
			}
			n++
		}
		if n < count-1 {
			t.Fatalf("%d", n)
		}
		return nil
	}))
}
