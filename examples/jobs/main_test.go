package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/wakepoint/wakepoint/examples/killtest"
)

// ledger is what the clients know of their jobs, by what they said was to be done.
type ledger struct {
	mu      sync.Mutex
	added   map[string]bool // false: nobody knows
	done    map[string]bool // false: nobody knows
	numbers map[int64]string
}

// TestKilled: whenever the server is killed, each job that was taken in comes out
// until it is done, under one number, and none does that was done.
func TestKilled(t *testing.T) {
	s := killtest.Build(t, "-lease", "0s")
	l := &ledger{added: map[string]bool{}, done: map[string]bool{}, numbers: map[int64]string{}}
	for round := range killtest.Rounds {
		s.KillAmid(4, func(c int) bool {
			if c%2 == 0 {
				return l.add(t, s) != nil
			}
			_, err := l.work(t, s)
			return err != nil
		})
		s.Start()
		if round < killtest.Rounds-1 {
			continue
		}
		for { // the rest is done in peace
			more, err := l.work(t, s)
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				break
			}
		}
	}
	n := 0
	for work, acknowledged := range l.added {
		if _, done := l.done[work]; acknowledged && !done {
			t.Errorf("%s is lost", work)
		}
		if acknowledged {
			n++
		}
	}
	t.Logf("%d jobs were acknowledged, %d done", n, len(l.done))
}

// add adds a job.
func (l *ledger) add(t *testing.T, s *killtest.Server) error {
	l.mu.Lock()
	work := fmt.Sprintf("job %d", len(l.added))
	l.added[work] = false
	l.mu.Unlock()
	_, err := call(t, s, "/add", job{Work: work})
	if err == nil {
		l.mu.Lock()
		l.added[work] = true
		l.mu.Unlock()
	}
	return err
}

// work does a job, if there is one.
func (l *ledger) work(t *testing.T, s *killtest.Server) (more bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock() // one at a time, so that what is done is known when the next comes out
	j, err := call(t, s, "/take", job{})
	if err != nil || j.Work == "" {
		return false, err
	}
	if first, known := l.numbers[j.ID]; known && first != j.Work {
		t.Errorf("%d is %q and %q", j.ID, first, j.Work)
	}
	l.numbers[j.ID] = j.Work
	if _, added := l.added[j.Work]; !added || l.done[j.Work] {
		t.Errorf("%q comes out: added %v, done %v", j.Work, added, l.done[j.Work])
	}
	l.done[j.Work] = false
	if _, err := call(t, s, "/done", j); err != nil {
		return false, err
	}
	l.done[j.Work] = true
	return true, nil
}

// call asks the server.
func call(t *testing.T, s *killtest.Server, path string, j job) (answer job, err error) {
	b, err := json.Marshal(j)
	if err != nil {
		t.Error(err)
	}
	status, text, err := s.Do("POST", path, string(b))
	if err != nil || status == http.StatusNoContent {
		return answer, err
	}
	return answer, json.Unmarshal([]byte(text), &answer)
}

// TestEmpty: of no job nothing is said, and numbers begin at 1.
func TestEmpty(t *testing.T) {
	s := killtest.Build(t)
	s.Start()
	for _, body := range []string{"{}", `{"ID": 5, "Work": "mine"}`} {
		if status, text, err := s.Do("POST", "/take", body); status != http.StatusNoContent || text != "" || err != nil {
			t.Errorf("an empty queue gives %d %q, %v", status, text, err)
		}
	}
	if j, err := call(t, s, "/add", job{Work: "first"}); j.ID != 1 || err != nil {
		t.Errorf("%+v, %v", j, err)
	}
	if j, err := call(t, s, "/take", job{}); j.ID != 1 || j.Work != "first" || err != nil {
		t.Errorf("%+v, %v", j, err)
	}
}
