package vmtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// Order is what the host tells a machine to do: to run a command.
type Order struct {
	ID   int      `json:"id"`
	Argv []string `json:"argv"`
}

// Word is what a machine says: a line that a command has printed or, with
// Done, how it ended. The first one has no ID, and the kernel's release as its
// line. Orders and words are lines of JSON on the serial line.
type Word struct {
	ID   int    `json:"id"`
	Line string `json:"line,omitempty"`
	Err  bool   `json:"err,omitempty"` // on standard error
	Done bool   `json:"done,omitempty"`
	Code int    `json:"code,omitempty"` // as a shell gives it
}

// ErrCut says that the machine was gone before it had answered.
var ErrCut = errors.New("the machine is gone")

// Result is what became of a command.
type Result struct {
	Out, Err string
	Code     int
}

// Job is a command that a machine runs.
type Job struct {
	// Lines are what it has printed on standard output, in order. The channel
	// is closed when it has ended or the machine is gone, and holds what was
	// said until then.
	Lines <-chan string

	lines  chan string
	done   chan struct{}
	result Result
	err    error
}

// linesMax is how much a job may print that nobody reads.
const linesMax = 1 << 16

// Wait waits for the end of the job; ErrCut when it has none.
func (j *Job) Wait(ctx context.Context) (Result, error) {
	select {
	case <-j.done:
		return j.result, j.err
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

// talk is the host's end of the serial line.
type talk struct {
	w       io.Writer
	hello   chan string // the release, once
	gone    chan struct{}
	writing sync.Mutex // one order at a time

	mu   sync.Mutex // guards what follows
	last int
	jobs map[int]*Job
	over bool
}

func newTalk(w io.Writer) *talk {
	return &talk{w: w, hello: make(chan string, 1), gone: make(chan struct{}), jobs: map[int]*Job{}}
}

// listen reads what the machine says, to the end.
func (t *talk) listen(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var w Word
		if json.Unmarshal(line, &w) == nil { // what a boot loader says is not for us
			t.heard(w)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	for _, j := range t.jobs {
		j.err = ErrCut
		j.end()
	}
	t.jobs = nil
	close(t.gone)
}

func (t *talk) heard(w Word) {
	t.mu.Lock()
	defer t.mu.Unlock()
	j := t.jobs[w.ID]
	switch {
	case w.ID == 0 && len(t.hello) == 0:
		t.hello <- w.Line
	case j == nil:
	case w.Done:
		j.result.Code = w.Code
		j.end()
		delete(t.jobs, w.ID)
	case w.Err:
		j.result.Err += w.Line + "\n"
	default:
		j.result.Out += w.Line + "\n"
		select {
		case j.lines <- w.Line:
		default: // nobody reads them
		}
	}
}

func (j *Job) end() {
	close(j.lines)
	close(j.done)
}

// start sends an order.
func (t *talk) start(argv []string) (*Job, error) {
	lines := make(chan string, linesMax)
	j := &Job{Lines: lines, lines: lines, done: make(chan struct{})}
	t.mu.Lock()
	if t.over {
		t.mu.Unlock()
		return nil, ErrCut
	}
	t.last++
	id := t.last
	t.jobs[id] = j
	t.mu.Unlock()
	p, err := json.Marshal(Order{ID: id, Argv: argv})
	if err != nil {
		return nil, err
	}
	t.writing.Lock()
	defer t.writing.Unlock()
	if _, err := t.w.Write(append(p, '\n')); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", strings.Join(argv, " "), ErrCut, err)
	}
	return j, nil
}
