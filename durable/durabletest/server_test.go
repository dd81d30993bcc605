package durabletest_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/durable/durabletest"
)

// counter is a server that counts, in a file of its own. It keeps what it
// acknowledges; of which promise it is without says broken.
type counter struct {
	fs     durable.FS
	n      int
	broken string
}

// openCounter finds the last count.
func openCounter(d durable.FS, broken string) (*counter, error) {
	c := &counter{fs: d, broken: broken}
	f, err := d.Open("/count")
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	if broken == "sync at open" {
		_, err = fmt.Sscanf(string(b), "%d.", &c.n)
		return c, err
	}
	// It may be known only to the system: whoever is told of it relies on it.
	if err := errors.Join(f.Sync(), d.SyncDir("/")); err != nil {
		return nil, err
	}
	_, err = fmt.Sscanf(string(b), "%d.", &c.n)
	return c, err
}

// add counts, and returns when the count is durable.
func (c *counter) add() error {
	if err := c.put(strconv.Itoa(c.n+1) + "."); err != nil {
		return err
	}
	c.n++
	return nil
}

func (c *counter) put(text string) error {
	if c.broken == "rename" {
		return c.write("/count", text)
	}
	if err := c.write("/count.new", text); err != nil {
		return err
	}
	if err := c.fs.Rename("/count.new", "/count"); err != nil {
		return err
	}
	if c.broken == "syncdir" {
		return nil
	}
	return c.fs.SyncDir("/")
}

func (c *counter) write(name, text string) error {
	if err := c.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := c.fs.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write([]byte(text)); err != nil || c.broken == "sync" {
		return err
	}
	err = f.Datasync()
	if err != nil && c.broken == "one sync" {
		err = f.Datasync() // which says nothing of what the first one lost
	}
	return err
}

// counting is a client that counts to 4 in each of its lives.
func counting(broken string) func() durabletest.Test {
	return func() durabletest.Test {
		begun, acknowledged := 0, 0
		check := func(fs durable.FS) error {
			c, err := openCounter(fs, broken)
			if err != nil {
				return err
			}
			if c.n < acknowledged || c.n > begun {
				return fmt.Errorf("%d, of %d that were begun and %d acknowledged", c.n, begun, acknowledged)
			}
			begun, acknowledged = c.n, c.n // it was told so
			return nil
		}
		run := func(fs durable.FS) error {
			c, err := openCounter(fs, broken)
			for i := 0; err == nil && i < 4; i++ {
				begun = c.n + 1
				if err = c.add(); err == nil {
					acknowledged = c.n
				}
			}
			return err
		}
		return durabletest.Test{Run: run, Check: check}
	}
}
