package main

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/wakepoint/wakepoint/examples/killtest"
)

// TestKilled: whenever the server is killed, it has what it has answered. Each
// client keeps a ledger of its own key: the number that it put last, 0 where it
// was deleted, and the one that was under way.
func TestKilled(t *testing.T) {
	const clients = 4
	s := killtest.Build(t)
	acknowledged, begun := [clients]int{}, [clients]int{}
	value := func(n int) int {
		if n%10 == 0 {
			return 0
		}
		return n
	}
	for round := range killtest.Rounds {
		s.KillAmid(clients, func(c int) bool {
			begun[c]++
			method, body := http.MethodPut, strconv.Itoa(begun[c])
			if value(begun[c]) == 0 {
				method, body = http.MethodDelete, ""
			}
			if _, _, err := s.Do(method, fmt.Sprintf("/client/%d", c), body); err != nil {
				return true
			}
			acknowledged[c] = begun[c]
			return false
		})
		s.Start()
		for c := range clients {
			status, answer, err := s.Do(http.MethodGet, fmt.Sprintf("/client/%d", c), "")
			got := 0
			if status == http.StatusOK {
				got, err = strconv.Atoi(answer)
			}
			if err != nil || got != value(acknowledged[c]) && got != value(begun[c]) {
				t.Fatalf("round %d, client %d: %q, %v; %d was acknowledged, %d begun", round, c, answer, err, acknowledged[c], begun[c])
			}
			if begun[c] = acknowledged[c]; got > begun[c] {
				begun[c], acknowledged[c] = got, got
			}
		}
	}
	t.Logf("acknowledged: %v", acknowledged)
}

// TestLines counts what makes the server durable: the lines that its twin in
// memory does not have.
func TestLines(t *testing.T) {
	durable, memory := code(t, "main.go"), code(t, "memory/main.go")
	more := len(durable) - common(durable, memory)
	t.Logf("%d of %d lines make it durable", more, len(durable))
	if most := 15; more > most {
		t.Errorf("%d lines make it durable, more than %d", more, most)
	}
}

// code is the lines of a file that are not empty or comments, without their
// indentation.
func code(t *testing.T, file string) (lines []string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			lines = append(lines, line)
		}
	}
	return lines
}

// common is how many lines two files have in common, in the same order.
func common(a, b []string) int {
	row := make([]int, len(b)+1)
	for i := range a {
		before := 0 // of the row above, to the left
		for j := range b {
			above := row[j+1]
			if a[i] == b[j] {
				row[j+1] = before + 1
			} else {
				row[j+1] = max(above, row[j])
			}
			before = above
		}
	}
	return row[len(b)]
}

// TestMethods: there are GET, HEAD, PUT and DELETE, and nothing else changes anything.
func TestMethods(t *testing.T) {
	s := killtest.Build(t)
	s.Start()
	for _, c := range []struct {
		method, key string
		want        int
	}{
		{"HEAD", "/a", 404}, {"GET", "/a", 404}, {"POST", "/a", 405}, {"PATCH", "/a", 405}, {"GET", "/a", 404},
		{"PUT", "/a", 204}, {"HEAD", "/a", 200}, {"GET", "/a", 200}, {"OPTIONS", "/a", 405}, {"DELETE", "/a", 204}, {"HEAD", "/a", 404},
	} {
		if status, _, err := s.Do(c.method, c.key, "text"); status != c.want || err != nil {
			t.Errorf("%s %s: %d, %v", c.method, c.key, status, err)
		}
	}
}
