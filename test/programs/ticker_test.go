//go:build linux

package programs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// separator begins the line that stands in the output where a workload was
// brought back.
const separator = "wakepoint: restored from g"

// ticker is the client of programs that print consecutive numbers by
// themselves, one a line, and idle while the rig's gate exists. It holds that
// the numbers of each run are consecutive and that none begins beyond the end
// of the one before.
type ticker struct {
	r *rig
}

// run is the numbers printed between two restores.
type run struct{ first, last uint64 }

// runs reads the output. A line that is neither a number nor a separator is an
// error, except for a torn one where a run ends.
func (k ticker) runs() ([]run, error) {
	text, err := k.r.logs()
	if err != nil {
		return nil, err
	}
	return parseRuns(text)
}

func parseRuns(text string) ([]run, error) {
	runs := []run{{}}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, separator) {
			if runs[len(runs)-1].first == 0 {
				return nil, errors.New("restored twice without a number between")
			}
			runs = append(runs, run{})
			continue
		}
		if !strings.HasSuffix(line, "\n") {
			break // still being written
		}
		n, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("it printed %q", line)
		}
		now := &runs[len(runs)-1]
		switch {
		case now.first != 0 && n != now.last+1:
			return nil, fmt.Errorf("%d follows %d in run %d", n, now.last, len(runs))
		case now.first == 0 && len(runs) > 1 && n > runs[len(runs)-2].last+1:
			return nil, fmt.Errorf("run %d begins at %d, the one before ended at %d", len(runs), n, runs[len(runs)-2].last)
		case now.first == 0:
			now.first = n
		}
		now.last = n
	}
	return runs, nil
}

func (k ticker) step() (uint64, error) {
	time.Sleep(100 * time.Millisecond)
	runs, err := k.runs()
	if err != nil {
		return 0, err
	}
	return runs[len(runs)-1].last, nil
}

func (k ticker) sent() uint64 { return anywhere }

func (k ticker) check() (uint64, error) {
	if err := k.open(); err != nil {
		return 0, err
	}
	deadline := time.Now().Add(patience / 2)
	for {
		runs, err := k.runs()
		if err != nil {
			return 0, err
		}
		now := runs[len(runs)-1]
		switch {
		case session.calm && now.first != 0:
			return now.last, nil
		case len(runs) == k.r.restores+1 && now.first != 0:
			return now.first - 1, nil
		case time.Now().After(deadline):
			return 0, fmt.Errorf("%d runs after %d restores, the last at %d", len(runs), k.r.restores, now.last)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// open removes the gate, so that the program goes on.
func (k ticker) open() error {
	if err := os.Remove(k.r.gate); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (k ticker) rest() error {
	if err := os.WriteFile(k.r.gate, nil, 0o600); err != nil {
		return err
	}
	time.Sleep(700 * time.Millisecond)
	return nil
}

func (k ticker) close() {}
