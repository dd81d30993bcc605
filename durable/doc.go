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
// # Promises
//
// When Update has returned nil, what it did is durable, and all that it saw. When
// it has returned an error, nothing was changed, with two exceptions: ErrUnknown
// says that the context ended on the way to the disk, and ErrPoisoned that the
// disk refused; then it is there as a whole or not at all after the next Open.
// When View has returned nil, what it saw is durable: it can be told to others.
//
// Updates are strictly serializable: they run one at a time, and each sees all
// that were before it. They wait for the disk together. A view sees one instant
// and holds up nobody.
//
// Tables hold bytes: what Get returns is the caller's, and what was given to Put
// does not change with the caller's. Keys are in the order of their bytes, and
// the codecs of KeyOf keep the order of strings, numbers and times.
//
// What is damaged on the disk is told of, by a *DamageError that names the file,
// and never taken for a key that is not there. At least three generations are
// kept, with the log behind the oldest, and damage is mended from them where that
// can be.
//
// # Jobs
//
// What takes longer than a transaction, or has effects on others, is a Job: steps,
// each with its undoing. Which of them are done is durable together with what they
// changed; after a crash Run goes on, forward or undoing. Effects outside have a
// key (Work.Key), by which others can tell a second time from another one. A step
// that may have had one is undone as well, where its job is.
//
// # Limits
//
// State fits into memory, and one process at a time has a directory open. Keys
// have at most KeyMax bytes, transactions TransactionMax.
//
// The formats, and what is promised when as a table, stand in doc/durable.md.
// Package durabletest cuts the power under your own server, in a test.
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
