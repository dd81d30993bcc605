package namespace

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// asked runs this test program again as something else.
func asked(t *testing.T, what, shell string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", shell+`; exec "$0" -test.run '^TestHeritageOf$'`, os.Args[0])
	cmd.Env = append(os.Environ(), "INHERIT="+what)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// TestHeritageOf is what TestHeritage runs.
func TestHeritageOf(t *testing.T) {
	what := os.Getenv("INHERIT")
	if what == "" {
		return // it is no test by itself
	}
	in, err := Heritage()
	if err != nil {
		t.Fatal(err)
	}
	if what == "set" {
		runtime.LockOSThread()           // as an init is: a nice value is a thread's
		in.Limits[7] = [2]uint64{33, 44} // open files
		in.Nice++
		in.OOMScoreAdj++
		if err := in.set(); err != nil {
			t.Fatal(err)
		}
	}
	if what == "tell" {
		fmt.Printf("%d\n%d\n%d\n%d\n", in.Limits[7][0], in.Limits[7][1], in.Nice, in.OOMScoreAdj)
		return
	}
	cmd := exec.Command("sh", "-c", "ulimit -Sn; ulimit -Hn; nice; cat /proc/self/oom_score_adj")
	cmd.Stdout = os.Stdout
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
}

// What a command inherits is what a shell would have given it: Go's runtime
// raises a limit of its own, which is not the command's.
func TestHeritage(t *testing.T) {
	with := "ulimit -Sn 55; ulimit -Hn 66; echo 7 >/proc/self/oom_score_adj; renice -n 2 $$ >/dev/null"
	for what, want := range map[string]string{"tell": "55 66 2 7", "set": "33 44 3 8"} {
		var got []string
		for s := bufio.NewScanner(strings.NewReader(asked(t, what, with))); s.Scan(); {
			if _, err := strconv.Atoi(s.Text()); err == nil {
				got = append(got, s.Text())
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %s, want %s", what, s, want)
		}
	}
}
