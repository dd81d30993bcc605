package durable_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/durable/durabletest"
)

var (
	crashN    = flag.Int("crash.n", 600, "power cuts of TestCrash, and of TestFault")
	crashSeed = flag.Uint64("crash.seed", 1, "what draws them")
)

// client is who uses a server. What it was told is begun and acknowledged: all
// transactions up to a number.
type client struct {
	t    testing.TB
	all  *states
	hook func(durable.FS) durable.FS // nil: none
	hurt bool                        // the disk was damaged, where it could be made anew

	mu     sync.Mutex // guards the rest
	tables int
	begun  int64
	acked  int64
	broken error // a promise, while the server ran
}

const dir = "/db"

// open opens the server and compares. What is there from now on stays, and what
// is not never comes.
func (c *client) open(fs durable.FS) (*server, error) {
	if c.broken != nil {
		return nil, c.broken
	}
	if c.hook != nil {
		fs = c.hook(fs)
	}
	for n, from := range map[int]int64{2: 0, 3: blobsFrom - 1, 4: timesFrom - 1} {
		if c.acked >= from {
			c.tables = max(c.tables, n)
		}
	}
	s, err := start(fs, dir, c.tables)
	if err != nil {
		return nil, err
	}
	n, err := s.whole(c.all)
	if err == nil && (n < c.acked || n > c.begun) {
		err = fmt.Errorf("the last transaction is %d, %d were begun and %d acknowledged", n, c.begun, c.acked)
	}
	if err == nil && !c.hurt && len(s.recovery.Damaged)+len(s.recovery.Dropped) > 0 {
		err = fmt.Errorf("recovery says: %+v", s.recovery)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	c.begun, c.acked = n, n
	return s, nil
}

// limit is the last transaction that a server with so many tables can do.
func (c *client) limit() int64 {
	return []int64{0, 0, blobsFrom - 1, timesFrom - 1, 1 << 60}[c.tables]
}

// update does the next transaction. Several may do so at once.
func (c *client) update(s *server) error { return c.updateUntil(context.Background(), s) }

// hasty does not wait long. The transaction was not done then, or what became of
// it is unknown.
func (c *client) hasty(s *server) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	err := c.updateUntil(ctx, s)
	if errors.Is(err, durable.ErrUnknown) || err == context.DeadlineExceeded {
		return nil
	}
	return err
}

func (c *client) updateUntil(ctx context.Context, s *server) error {
	var mine int64
	err := s.Update(ctx, func(tx *durable.Tx) error {
		n, _ := s.counts.Get(tx, last)
		mine = n + 1
		s.do(tx, mine)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.begun = max(c.begun, mine)
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.acked = max(c.acked, mine)
	}
	return err
}

var errOwn = errors.New("no")

// undone begins a transaction that does not want to be.
func (c *client) undone(s *server) error {
	err := s.Update(context.Background(), func(tx *durable.Tx) error {
		s.do(tx, c.begun+5)
		return errOwn
	})
	if !errors.Is(err, errOwn) {
		return fmt.Errorf("a transaction that was taken back: %w", err)
	}
	if err != errOwn {
		return err
	}
	return nil
}

// run is a life of a client: transactions, some of them at once, checkpoints,
// backups.
func (c *client) run(fs durable.FS) (err error) {
	s, err := c.open(fs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	end := min(c.acked+13, c.limit())
	for err == nil && c.acked < end {
		switch c.acked % 13 {
		case 3, 9, 11:
			err = s.Checkpoint(context.Background())
		case 5:
			err = c.backup(s)
		case 6:
			err = c.undone(s)
		case 7:
			err = c.several(s, int(min(3, end-c.acked)))
			continue
		}
		if err == nil {
			err = c.update(s)
		}
	}
	return err
}

// several does n transactions at once, and meanwhile a checkpoint and views.
func (c *client) several(s *server, n int) error {
	over := make(chan error)
	for i := range n {
		update := c.update
		if i == 1 {
			update = c.hasty
		}
		go func() { over <- update(s) }()
		go func() { over <- c.view(s) }()
	}
	err := s.Checkpoint(context.Background())
	for range 2 * n {
		err = errors.Join(err, <-over)
	}
	return err
}

// view looks which transaction is the last. What it was told of must stay.
func (c *client) view(s *server) error {
	var n int64
	err := s.View(context.Background(), func(tx *durable.Tx) error {
		n, _ = s.counts.Get(tx, last)
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.acked = max(c.acked, n)
	}
	return err
}

// backup makes a backup and opens it: it is the state at some instant meanwhile.
func (c *client) backup(s *server) error {
	var b bytes.Buffer
	before := c.acked
	if err := s.Backup(context.Background(), &b); err != nil {
		return err
	}
	d := durabletest.NewDisk()
	if err := unpack(d, &b); err != nil {
		return err
	}
	o, err := start(d, dir, c.tables)
	if err != nil {
		return c.breaks("the backup opens: %w", err)
	}
	n, err := o.whole(c.all)
	if err != nil || n < before || n > c.begun {
		return c.breaks("the backup of %d is of %d: %w", before, n, err)
	}
	return o.Close()
}

func (c *client) breaks(format string, args ...any) error {
	c.broken = fmt.Errorf(format, args...)
	return c.broken
}

// unpack makes the files of an archive.
func unpack(d durable.FS, r io.Reader) error {
	if err := d.Mkdir(dir); err != nil {
		return err
	}
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		f, err := d.Create(path.Join(dir, path.Base(h.Name)))
		if err == nil {
			_, err = io.Copy(f, in)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			return err
		}
	}
}

// check opens the server, which must find nothing wrong.
func (c *client) check(fs durable.FS) error {
	s, err := c.open(fs)
	if err != nil {
		return err
	}
	err = s.Verify(context.Background())
	if c.hurt && isDamage(err) {
		err = nil // older generations still have it
	}
	return errors.Join(err, s.Close())
}

// manner is how a database is tried.
type manner struct {
	fault error                       // what calls say that fail; nil: the power is cut
	slow  bool                        // an fsync takes its time
	large *flips                      // what is there before; nil: nothing
	hurt  bool                        // and is damaged
	hook  func(durable.FS) durable.FS // nil: none
}

// suite is what is tried with a database.
func suite(t testing.TB, o durabletest.Options, m manner) durabletest.Report {
	all := &states{}
	if m.large != nil {
		all = m.large.all
	}
	o.Disk = func() *durabletest.Disk {
		d := durabletest.NewDisk()
		if m.large != nil {
			d = m.large.disk.Cut(durabletest.KeepAll)
		}
		if m.slow {
			d.SetDelay(3 * time.Millisecond)
		}
		return d
	}
	begin := func() durabletest.Test {
		c := &client{t: t, all: all, hook: m.hook, hurt: m.hurt}
		if m.large != nil {
			c.begun, c.acked = m.large.last, m.large.last
		}
		return durabletest.Test{Run: c.run, Check: c.check}
	}
	if m.fault != nil {
		return durabletest.Fail(t, o, m.fault, begin)
	}
	return durabletest.Crash(t, o, begin)
}

// TestCrash cuts the power, and kills, at any call, and again and again. Nothing
// that was acknowledged is lost, and nothing half done.
func TestCrash(t *testing.T) {
	for _, slow := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := suite(t, durabletest.Options{Seed: *crashSeed, Cuts: *crashN / 2}, manner{slow: slow})
			if r.Of < 60 {
				t.Errorf("only %d calls", r.Of)
			}
		})
	}
}

// TestCrashLarge does the same with what has several generations, files and
// leaves, which are loaded when they are needed.
func TestCrashLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlips(quietLog{t}, 1)
		suite(t, durabletest.Options{Seed: *crashSeed, Cuts: *crashN / 10}, manner{large: f})
		suite(t, durabletest.Options{Seed: *crashSeed, Cuts: *crashN / 10}, manner{large: f, slow: true})
		suite(t, durabletest.Options{Seed: *crashSeed, Cuts: *crashN / 10}, manner{large: f, fault: syscall.EIO})
	})
}

// TestCrashDamaged does the same where damage is made anew of an older generation
// and the log.
func TestCrashDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlips(quietLog{t}, 1)
		for tries, found := 0, 0; found < 5; tries++ {
			if tries == 500 {
				t.Fatal("no damage can be made anew")
			}
			own, d := *f, f.disk.Cut(durabletest.KeepAll)
			name, _ := own.flip(d)
			own.disk = d
			if said, err := own.look(d.Kill()); !said || err != nil {
				continue
			}
			t.Log(name)
			found++
			suite(t, durabletest.Options{Seed: *crashSeed, Cuts: *crashN / 20}, manner{large: &own, hurt: true})
		}
	})
}

// TestFault lets any call fail, once or from then on, done or not.
func TestFault(t *testing.T) {
	for _, err := range []error{syscall.EIO, syscall.ENOSPC} {
		synctest.Test(t, func(t *testing.T) {
			suite(t, durabletest.Options{Seed: *crashSeed, Cuts: *crashN / 2}, manner{fault: err})
		})
	}
}

// TestFirstOpenKilled kills whoever makes the directory at each call, and cuts
// the power when the next one has acknowledged something.
func TestFirstOpenKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if why := killedFirst(t, func(fs durable.FS) durable.FS { return fs }); why != "" {
			t.Error(why)
		}
	})
}

// killedFirst returns what is wrong then.
func killedFirst(t testing.TB, hook func(durable.FS) durable.FS) string {
	const dir = "/a/b/db"
	all := &states{}
	for call := 1; ; call++ {
		d := durabletest.NewDisk()
		d.CutAt(call)
		s, err := start(hook(d), dir, 2)
		if err == nil {
			_ = s.Close()
			return ""
		}
		d = d.Kill()
		if why := cutSecond(d, dir, hook); why != "" {
			return fmt.Sprintf("killed at call %d, %s", call, why)
		}
		d = d.Kill()
		c := &client{t: t, all: all}
		if s, err = start(hook(d), dir, 2); err == nil {
			err = errors.Join(c.update(s), s.Close())
		}
		if err != nil {
			return fmt.Sprintf("killed at call %d: %v", call, err)
		}
		if s, err = start(hook(d.Cut(durabletest.LoseAll)), dir, 2); err != nil {
			return fmt.Sprintf("killed at call %d, then cut: %v", call, err)
		}
		n, err := s.whole(all)
		if err = errors.Join(err, s.Close()); n != 1 || err != nil {
			return fmt.Sprintf("killed at call %d, then cut: the last transaction is %d: %v", call, n, err)
		}
	}
}

// cutSecond cuts the power while the next one begins, and returns what is wrong
// with the one after that.
func cutSecond(d *durabletest.Disk, dir string, hook func(durable.FS) durable.FS) string {
	for call := 1; call < 9; call++ {
		own := d.Kill()
		own.CutAt(call)
		if s, err := start(hook(own), dir, 2); err == nil {
			_ = s.Close()
		}
		for keep := range durabletest.Drawn + 12 {
			s, err := start(hook(own.Cut(keep)), dir, 2)
			if err != nil {
				return fmt.Sprintf("then cut at call %d, %v: %v", call, keep, err)
			}
			_ = s.Close()
		}
	}
	return ""
}
