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
//
// # What durable means
//
// Nothing is acknowledged before the system says that it is on the disk. What
// that is depends on the system:
//
//   - Linux: fdatasync(2) of the log, fsync(2) of new files and of directories.
//   - macOS: fcntl(2) with F_FULLFSYNC, of files and directories: plain fsync leaves
//     data in the drive's cache. Where a file system has none (SMB) it is fsync.
//   - Windows: FlushFileBuffers of files. Directories cannot be flushed: a file
//     gets its name by MoveFileEx with MOVEFILE_WRITE_THROUGH, when it is written.
//   - FreeBSD, NetBSD, OpenBSD, DragonFly: fsync(2) of files and directories.
//   - Others, such as js/wasm, have no locks: there Options.FS must be given, and
//     means what its Sync means.
//
// A disk that says so without doing so loses what it said. A network file system
// promises no more than its server does: Options.Logger gets a warning.
package durable
