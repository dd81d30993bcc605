package disk

import (
	"errors"
	"fmt"
)

// ErrInjected is the error of an operation that a watcher made fail.
var ErrInjected = errors.New("injected failure")

// Op is one operation that changes a file system.
type Op struct {
	Verb string // create append modify write truncate sync rename remove mkdir syncdir
	Name string
	To   string // rename: the new name
	Size int64  // write, truncate: bytes
}

// String returns the operation as a line of a trace, without its size.
func (o Op) String() string {
	if o.To != "" {
		return fmt.Sprintf("%s %s %s", o.Verb, o.Name, o.To)
	}
	return o.Verb + " " + o.Name
}

// Verdict says what becomes of a watched operation.
type Verdict int

const (
	Do   Verdict = iota // done as asked
	Fail                // not done; ErrInjected
	Lie                 // done, but reported as ErrInjected
	Drop                // not done, but reported as done; for what returns no more than an error
)

// Watch returns a file system that asks f before each operation that changes
// base, in the order in which they happen. Tests use it for golden traces and
// to make each step of a protocol fail both ways. f is called from whichever
// goroutine performs the operation.
func Watch(base FS, f func(Op) Verdict) FS { return &watched{FS: base, ask: f} }

type watched struct {
	FS
	ask func(Op) Verdict
}

func (w *watched) judge(op Op, do func() error) error {
	switch w.ask(op) {
	case Fail:
		return fmt.Errorf("%s: %w", op, ErrInjected)
	case Lie:
		if err := do(); err != nil {
			return err
		}
		return fmt.Errorf("%s: %w", op, ErrInjected)
	case Drop:
		return nil
	}
	return do()
}

func (w *watched) open(op Op, open func(string) (File, error)) (File, error) {
	var f File
	err := w.judge(op, func() (err error) {
		f, err = open(op.Name)
		return err
	})
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, err
	}
	return &watchedFile{File: f, w: w}, nil
}

func (w *watched) Create(name string) (File, error) {
	return w.open(Op{Verb: "create", Name: name}, w.FS.Create)
}

func (w *watched) Append(name string) (File, error) {
	return w.open(Op{Verb: "append", Name: name}, w.FS.Append)
}

func (w *watched) Modify(name string) (File, error) {
	return w.open(Op{Verb: "modify", Name: name}, w.FS.Modify)
}

func (w *watched) Rename(from, to string) error {
	return w.judge(Op{Verb: "rename", Name: from, To: to}, func() error { return w.FS.Rename(from, to) })
}

func (w *watched) Remove(name string) error {
	return w.judge(Op{Verb: "remove", Name: name}, func() error { return w.FS.Remove(name) })
}

func (w *watched) Mkdir(name string) error {
	return w.judge(Op{Verb: "mkdir", Name: name}, func() error { return w.FS.Mkdir(name) })
}

func (w *watched) SyncDir(name string) error {
	return w.judge(Op{Verb: "syncdir", Name: name}, func() error { return w.FS.SyncDir(name) })
}

type watchedFile struct {
	File
	w *watched
}

func (f *watchedFile) Write(p []byte) (n int, err error) {
	err = f.w.judge(Op{Verb: "write", Name: f.Name(), Size: int64(len(p))}, func() (err error) {
		n, err = f.File.Write(p)
		return err
	})
	return n, err
}

func (f *watchedFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.w.judge(Op{Verb: "write", Name: f.Name(), Size: int64(len(p))}, func() (err error) {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, err
}

func (f *watchedFile) Truncate(size int64) error {
	return f.w.judge(Op{Verb: "truncate", Name: f.Name(), Size: size}, func() error { return f.File.Truncate(size) })
}

func (f *watchedFile) Sync() error {
	return f.w.judge(Op{Verb: "sync", Name: f.Name()}, f.File.Sync)
}

func (f *watchedFile) Datasync() error {
	return f.w.judge(Op{Verb: "sync", Name: f.Name()}, f.File.Datasync)
}
