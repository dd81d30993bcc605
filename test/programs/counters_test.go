//go:build linux

package programs

import "testing"

// fast takes a generation five times a second.
var fast = []string{"--every", "200ms"}

func TestCounter(t *testing.T) {
	r := newRig(t, "counter")
	bin := compileC(t, r.top, "counter", "-static")
	r.endure(subject{options: fast, argv: []string{bin, r.gate}, full: cyclesFull, client: ticker{r}})
}

func TestThreads(t *testing.T) {
	r := newRig(t, "threads")
	bin := compileC(t, r.top, "threads", "-pthread", "-lm")
	r.endure(subject{options: fast, argv: []string{bin, r.gate}, full: cyclesRisky, client: ticker{r}})
}

func TestObjects(t *testing.T) {
	r := newRig(t, "objects")
	bin := compileC(t, r.top, "objects")
	r.endure(subject{options: fast, argv: []string{bin, r.gate, r.dir, r.shm}, full: cyclesFull, client: ticker{r}})
}

func TestBash(t *testing.T) {
	r := newRig(t, "bash")
	need(t, "bash", "bash")
	script := testdata(t, r.top, "pipeline.sh")
	r.endure(subject{options: fast, argv: []string{script, r.gate, r.dir}, full: cyclesFull, client: ticker{r}})
}

// python is Debian's own, which is what the tests are about: another one in
// PATH may be a script that starts it.
func python(t *testing.T) string { return need(t, "python3", "/usr/bin/python3") }

func TestPythonThreads(t *testing.T) {
	r := newRig(t, "python-threads")
	script := testdata(t, r.top, "threads.py")
	r.endure(subject{options: fast, argv: []string{python(t), script, r.gate}, full: cyclesFull, client: ticker{r}})
}

func TestPythonMultiprocessing(t *testing.T) {
	r := newRig(t, "python-multi")
	script := testdata(t, r.top, "multi.py")
	r.endure(subject{options: fast, argv: []string{python(t), script, r.gate}, full: cyclesFull, client: ticker{r}})
}

// TestTicker holds the judge of what is printed.
func TestTicker(t *testing.T) {
	for _, c := range []struct {
		text string
		runs int // 0: refused
	}{
		{"1\n2\n3\n", 1},
		{"1\n2\n3\nwakepoint: restored from g2\n3\n4\n", 2},
		{"1\n2\n3\nwakepoint: restored from g2\n4\n5\n", 2},
		{"1\n2\n3\nwakepoint: restored from g2\n5\n", 0},
		{"1\n3\n", 0},
		{"1\n2\n2\n", 0},
		{"1\nbad: line 7\n", 0},
		{"1\n2\n3", 1},
	} {
		runs, err := parseRuns(c.text)
		if (err != nil) != (c.runs == 0) || err == nil && len(runs) != c.runs {
			t.Errorf("%q: %v, %v", c.text, runs, err)
		}
	}
}
