package main

import (
	"context"
	"os"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wakepoint/wakepoint/durable"
)

// openState opens a directory of package durable with two tables.
func openState(ts *testscript.TestScript, dir string) (*durable.DB, *durable.Table[string, int], *durable.Table[uint64, string]) {
	counts, names := durable.NewTable[string, int]("counts"), durable.NewTable[uint64, string]("names")
	db, _, err := durable.Open(context.Background(), durable.Options{Dir: ts.MkAbs(dir)}, counts, names)
	ts.Check(err)
	return db, counts, names
}

// scriptState makes a directory of package durable: 100 numbers and 3 names in
// three generations, and a transaction behind them.
func scriptState(ts *testscript.TestScript, _ bool, args []string) {
	db, counts, names := openState(ts, args[0])
	for round := range 4 {
		ts.Check(db.Update(context.Background(), func(tx *durable.Tx) error {
			for i := range 100 {
				counts.Put(tx, "count"+strconv.Itoa(i), i+round)
			}
			if round < 3 {
				names.Put(tx, uint64(round), "name")
			}
			return nil
		}))
		if round < 3 {
			ts.Check(db.Checkpoint(context.Background()))
		}
	}
	ts.Check(db.Close())
}

// scriptHold opens a directory of package durable until the script ends.
func scriptHold(ts *testscript.TestScript, _ bool, args []string) {
	db, _, _ := openState(ts, args[0])
	ts.Defer(func() { db.Close() })
}

// scriptHolds compares what a directory of package durable holds with what
// scriptState has put.
func scriptHolds(ts *testscript.TestScript, _ bool, args []string) {
	db, counts, names := openState(ts, args[0])
	defer db.Close()
	n := 0
	ts.Check(db.View(context.Background(), func(tx *durable.Tx) error {
		for k, v := range counts.All(tx) {
			if k == "count"+strconv.Itoa(v-3) {
				n++
			}
		}
		for _, v := range names.All(tx) {
			if v == "name" {
				n++
			}
		}
		return nil
	}))
	if n != 103 {
		ts.Fatalf("%d values are as they were", n)
	}
}

// scriptFlip changes a bit of a file.
func scriptFlip(ts *testscript.TestScript, _ bool, args []string) {
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	b, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	b[at] ^= 4
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}
