//go:build linux

package programs

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

func TestVim(t *testing.T) {
	r := newRig(t, "vim")
	bin := need(t, "vim", "vim")
	path := filepath.Join(r.dir, "text")
	if err := os.WriteFile(path, []byte("the first line\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	v := &vim{console: console{r: r}}
	r.endure(subject{
		start: func() { v.start(fast, []string{bin, "-u", "NONE", "-i", "NONE", "-N", path}) },
		full:  cyclesFull, client: v,
	})
}

func TestTop(t *testing.T) {
	r := newRig(t, "top")
	bin := need(t, "procps", "top")
	c := &top{console: console{r: r}}
	r.endure(subject{
		start: func() { c.start(fast, []string{bin, "-d", "0.3"}) },
		full:  cyclesFull, client: c, prepare: c.press,
	})
}

// top watches a screen that is drawn again and again. What it must remember is
// a key that was pressed once: m, which shows memory as a fraction.
type top struct {
	console
	refreshed uint64
	pressed   bool
	slow      bool
}

var (
	topLine  = regexp.MustCompile(`top - \d\d:\d\d:\d\d`)
	topPlain = regexp.MustCompile(`MiB Mem :[^/]*total`)
	topGraph = regexp.MustCompile(`MiB Mem : +[\d.]+/[\d.]+`)
)

func (c *top) press() error {
	if err := c.listening(); err != nil {
		return err
	}
	mark := c.view.mark()
	if err := c.view.send("m"); err != nil {
		return err
	}
	c.pressed = true
	return c.view.expect(mark, topGraph)
}

// listening waits until top has read what was typed: of two keys that it reads
// at once it takes one. A picture that begins now was begun after reading.
func (c *top) listening() error { return c.view.expect(c.view.mark(), topLine) }

func (c *top) step() (uint64, error) {
	if err := c.view.expect(c.view.mark(), topLine); err != nil {
		return 0, err
	}
	c.refreshed++
	return c.refreshed, nil
}

func (c *top) sent() uint64 { return anywhere }

func (c *top) check() (uint64, error) {
	if err := c.attach(); err != nil {
		return 0, err
	}
	if c.slow {
		// A viewer's arrival is a change of size to top, which drops the
		// question that it has just asked.
		time.Sleep(700 * time.Millisecond)
		if err := c.delay("0.3"); err != nil {
			return 0, err
		}
		c.slow = false
	}
	want := topPlain
	if c.pressed {
		want = topGraph
	}
	for range 2 {
		mark := c.view.mark()
		if err := c.view.send("\x0c"); err != nil { // draw everything anew
			return 0, err
		}
		for _, pattern := range []*regexp.Regexp{topLine, want} {
			if err := c.view.expect(mark, pattern); err != nil {
				return 0, err
			}
		}
	}
	return c.refreshed, nil
}

// delay sets the time between two refreshes.
func (c *top) delay(seconds string) error {
	mark := c.view.mark()
	if err := c.view.send("d"); err != nil {
		return err
	}
	if err := c.view.expect(mark, regexp.MustCompile(`Change delay`)); err != nil {
		return err
	}
	mark = c.view.mark()
	if err := c.view.send(seconds + "\r"); err != nil {
		return err
	}
	return c.view.expect(mark, topLine)
}

func (c *top) rest() error {
	if err := c.listening(); err != nil {
		return err
	}
	if err := c.delay("3000"); err != nil {
		return err
	}
	c.slow = true
	c.detach()
	time.Sleep(time.Second)
	return nil
}
