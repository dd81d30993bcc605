// Package durable keeps the state of a server in memory and on a disk, so that
// it is whole after a crash or a power cut at any instant: what was acknowledged
// is there, what was unfinished is not.
//
// State is in tables, ordered and typed. Update changes it and returns when the
// change is durable; View reads it. Both run a closure, all of it or nothing:
//
//	users := durable.NewTable[string, User]("users")
//	db, recovery, err := durable.Open(ctx, durable.Options{Dir: "state"}, users)
//	...
//	err = db.Update(ctx, func(tx *durable.Tx) error {
//		u, _ := users.Get(tx, "ann")
//		u.Visits++
//		users.Put(tx, "ann", u)
//		return nil
//	})
//
// Changes go into a log; one flush of the disk makes those of many callers
// durable. Checkpoints are made in the background, as often as it takes to be
// back within Options.RecoveryBudget.
package durable
