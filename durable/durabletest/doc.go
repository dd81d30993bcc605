// Package durabletest shows whether a server keeps its promises when the power
// is cut.
//
// A [Disk] is a file system in memory, for durable.Options.FS or for a program
// that writes files of its own. What was not synced it forgets when it is cut,
// or keeps any part of: of the contents of files each sector of 512 bytes for
// itself, of the changes of names any set that a journal may have written. It
// fails when it is told to, it can be full, slow, and damaged.
//
// [Crash] runs a test again and again, each time with the power cut at another
// call on the disk, and lets the program recover from what is left: also when
// that is cut, too. [Fail] lets each call fail in turn.
//
// The test keeps a ledger: what a client has asked for, and what was
// acknowledged. After a cut what was acknowledged must be there, and what was
// asked for may be there as a whole or not at all.
//
// All of it works in a bubble of testing/synctest: delays pass in its time. As
// everywhere in a bubble, time stands still while a goroutine waits for a
// sync.Mutex; who holds one during a slow call on the disk, which another
// goroutine waits for, waits for ever.
package durabletest
