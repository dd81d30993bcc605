package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/keeper"
)

func (a *app) logsCommand() *cobra.Command {
	var on bool
	cmd := a.onWorkload(&cobra.Command{
		Use:   "logs NAME [-f]",
		Short: "Print what a workload printed",
		Long: `Print what a workload printed to its standard output and standard error. A line
"wakepoint: restored from g411" stands where it was brought back. What a program
with a terminal shows is seen with "wakepoint attach".`,
	}, nil, func(ctx context.Context, s keeper.Site, name string, _ []string) error {
		return a.logs(ctx, s, name, on)
	})
	cmd.Flags().BoolVarP(&on, "follow", "f", false, "go on until the workload has ended")
	return cmd
}

func (a *app) logs(ctx context.Context, site keeper.Site, name string, on bool) error {
	status, err := keeper.StatusOf(ctx, site, name)
	if err != nil {
		return err
	}
	path, err := keeper.Output(site, name)
	if err != nil {
		return err
	}
	if status.Terminal {
		a.complain(name+" has a terminal; what it shows is not kept here", "see `wakepoint attach "+name+"`")
	}
	ended := make(chan struct{})
	if on && !over(status.State) {
		go func() { defer close(ended); keeper.Wait(ctx, site, name) }()
	} else {
		close(ended)
	}
	if err := follow(path, a.out, ended); err != nil {
		return err
	}
	return ctx.Err()
}

// follow copies a growing file to w until ended is closed and everything was
// copied. A file that was moved away (a rotation) is read to its end before
// the one that took its name; one that was cut is read from its start.
func follow(path string, w io.Writer, ended <-chan struct{}) error {
	grew, stop, err := watch(path)
	if err != nil {
		return err
	}
	defer stop()
	t := &tail{path: path}
	defer t.close()
	for {
		over := false
		select {
		case <-ended:
			over = true
		default:
		}
		if err := t.copyTo(w); err != nil {
			return err
		}
		if over {
			return nil
		}
		select {
		case <-ended:
		case <-grew:
		}
	}
}

// tail is a reader's place in a growing file.
type tail struct {
	path string
	file *os.File
	read int64
}

func (t *tail) close() {
	if t.file != nil {
		t.file.Close()
	}
}

// copyTo copies all there is.
func (t *tail) copyTo(w io.Writer) error {
	for {
		if t.file == nil {
			f, err := os.Open(t.path)
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			t.file, t.read = f, 0
		}
		n, err := io.Copy(w, t.file)
		if err != nil {
			return err
		}
		t.read += n
		old, err := t.file.Stat()
		if err != nil {
			return err
		}
		now, err := os.Stat(t.path)
		switch {
		case err == nil && !os.SameFile(old, now):
			t.file.Close()
			t.file = nil
		case old.Size() < t.read:
			if t.read, err = t.file.Seek(0, io.SeekStart); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// watch gives a token whenever a file or its directory changes, see inotify(7).
func watch(path string) (grew <-chan struct{}, stop func(), err error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, nil, fmt.Errorf("watch %s: %w", path, err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	// One watch of the directory sees writes to the file and a new file in its place.
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		events.Close()
		return nil, nil, fmt.Errorf("watch %s: %w", path, err)
	}
	tokens, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			if _, err := events.Read(buf); err != nil {
				return
			}
			select {
			case tokens <- struct{}{}:
			default:
			}
		}
	}()
	return tokens, func() { events.Close(); <-done }, nil
}
