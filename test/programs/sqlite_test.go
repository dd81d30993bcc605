//go:build linux

package programs

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSQLite has the database rolled back together with the program that has a
// transaction open on it: what is on disk must be sound, and no older than
// what the program has in memory.
func TestSQLite(t *testing.T) {
	r := newRig(t, "sqlite")
	bin := need(t, "sqlite3", "sqlite3")
	script := testdata(t, r.top, "sqlite.sh")
	r.endure(subject{
		options: append([]string{"--on-crash", "restore", "--data", r.dir}, fast...),
		argv:    []string{script, r.gate, r.dir},
		full:    cyclesFull, client: sqlite{ticker{r}, bin},
	})
}

// sqlite adds to what the program prints a look into the file by another
// process.
type sqlite struct {
	ticker
	bin string
}

func (s sqlite) check() (uint64, error) {
	n, err := s.ticker.check()
	if err != nil {
		return 0, err
	}
	const query = `PRAGMA integrity_check;
SELECT (SELECT n FROM total), count(*), count(DISTINCT tx), max(tx), min(length(data)) FROM t;`
	cmd := exec.Command(s.bin, "-readonly", "-cmd", ".timeout 20000", filepath.Join(s.r.dir, "data.db"), query)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("sqlite3: %w: %s", err, out)
	}
	sound, counts, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if sound != "ok" {
		return 0, fmt.Errorf("integrity_check: %s", out)
	}
	var total, rows, kept, newest uint64
	var size int
	if _, err := fmt.Sscanf(strings.ReplaceAll(counts, "|", " "), "%d %d %d %d %d", &total, &rows, &kept, &newest, &size); err != nil {
		return 0, fmt.Errorf("counts %q: %w", counts, err)
	}
	if newest != total || kept != min(total, 40) || rows != kept*10 || size != 3000 || total < n {
		return 0, fmt.Errorf("the file has total %d, %d rows of %d transactions to %d; the program printed %d", total, rows, kept, newest, n)
	}
	return n, nil
}
