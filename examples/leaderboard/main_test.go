package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/wakepoint/wakepoint/examples/killtest"
)

// TestKilled: whenever the server is killed, each player has the points that were
// acknowledged, perhaps those that were under way, and the order is that of the
// points: the two tables are never apart.
func TestKilled(t *testing.T) {
	const players = 4
	s := killtest.Build(t)
	acknowledged := [players]int{}
	for round := range killtest.Rounds {
		s.KillAmid(players, func(p int) bool {
			_, answer, err := s.Do(http.MethodPost, fmt.Sprintf("/players/player%d?points=%d", p, p+1), "")
			if err == nil {
				_, err = fmt.Sscan(answer, &acknowledged[p])
			}
			return err != nil
		})
		s.Start()
		_, top, err := s.Do(http.MethodGet, "/top", "")
		if err != nil {
			t.Fatal(err)
		}
		last, seen := 1<<62, map[int]bool{}
		for line := range strings.Lines(top) {
			var points, p int
			if _, err := fmt.Sscanf(line, "%d player%d\n", &points, &p); err != nil || seen[p] || points > last {
				t.Fatalf("round %d: %q in %q: %v", round, line, top, err)
			}
			seen[p], last = true, points
			if a := acknowledged[p]; points != a && points != a+p+1 {
				t.Errorf("round %d: player %d has %d points, %d were acknowledged", round, p, points, a)
			}
			// The table of points says the same.
			_, answer, err := s.Do(http.MethodPost, fmt.Sprintf("/players/player%d?points=0", p), "")
			if answer != fmt.Sprintln(points) || err != nil {
				t.Errorf("round %d: player %d has %q, and %d in the order: %v", round, p, answer, points, err)
			}
			acknowledged[p] = points
		}
		for p, a := range acknowledged {
			if a > 0 && !seen[p] {
				t.Errorf("round %d: player %d with %d points is gone", round, p, a)
			}
		}
	}
	t.Logf("acknowledged: %v", acknowledged)
}
