//go:build linux

package vm

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// within draws an instant.
func (g *rig) within(d time.Duration) time.Duration {
	return time.Duration(g.r.Float64() * float64(d))
}

// cutAtWork cuts the power at a random instant.
func cutAtWork(g *rig) {
	g.promising()
	g.waitPromise()
	time.Sleep(g.within(4 * time.Second))
	g.cut(g.survival())
	g.back()
}

// quiet keeps off the disk whatever nobody waits for, so that what is written
// is of the store.
const quiet = "echo 0 >/proc/sys/vm/dirty_writeback_centisecs"

// stopAt waits until the disk has stopped at one of the next n writes and
// flushes, or for a while.
func (g *rig) stopAt(n int, atMost time.Duration) {
	select {
	case <-g.disk.Trip(1 + g.r.IntN(n)):
	case <-time.After(atMost):
		g.t.Log("the disk was not used enough")
	}
}

// cutAtCommit stops the disk while a generation is written, at some write or
// flush.
func cutAtCommit(g *rig) {
	g.must(quiet)
	g.promising()
	g.waitPromise()
	g.stopAt(60, time.Minute)
	g.cut(g.survival())
	g.back()
}

// cutAtGC stops it while generations are removed.
func cutAtGC(g *rig) {
	g.must(quiet)
	g.promising()
	g.waitPromise()
	g.begin("while :; do wakepoint gc; sleep 0.2; done")
	g.waitPromise()
	g.stopAt(80, time.Minute)
	g.cut(g.survival())
	g.back()
}

// cutAtRecovery stops it in the midst of the recovery, several times in a row.
func cutAtRecovery(g *rig) {
	g.promising()
	g.waitPromise()
	before := 0 // tries of an incident that is open: power cuts do not end it
	if in := g.status().Incident; in != nil {
		before = in.Tries
	}
	g.stopAt(200, time.Minute)
	g.cut(g.survival())
	cut := min(1+g.r.IntN(5), g.left-1)
	for range cut {
		g.boot(g.next(), time.Time{})
		if g.r.IntN(2) == 0 {
			g.must(quiet)
		}
		g.begin("wakepoint recover")
		if g.r.IntN(3) == 0 {
			time.Sleep(g.within(3 * time.Second))
		} else {
			g.stopAt(30, 15*time.Second)
		}
		g.cut(g.survival())
	}
	g.back()
	if r := g.status().Recovery; r == nil || r.Tries < 1 || r.Tries > before+cut+1 {
		g.t.Fatalf("%+v after %d cuts of the recovery, and %d tries before", r, cut, before)
	}
}

// status is what is looked at of `status -o json`.
type status struct {
	PID       int
	KeeperPID int `json:"keeper_pid"`
	Incident  *struct{ Tries int }
	Recovery  *struct{ Tries int } `json:"last_recovery"`
}

func (g *rig) status() (s status) {
	g.t.Helper()
	if err := json.Unmarshal([]byte(g.must("wakepoint status "+g.of.name+" -o json")), &s); err != nil {
		g.t.Fatal(err)
	}
	return s
}

// cutAndOccupy gives the process numbers that the keepers and their programs
// had to others before they come back. One of the programs was adopted, and
// wants its own number.
func cutAndOccupy(g *rig) {
	const adopted = onDisk + "/adopted"
	if g.try("wakepoint status work").Code != 0 {
		g.must("cd " + onDisk + "; setsid program work " + adopted + " 1 </dev/null >out 2>&1 & sleep 2; wakepoint adopt $! --name work --cut --every 1s")
	}
	g.promising()
	g.waitPromise()
	g.waitPromise()
	var rows []status
	if err := json.Unmarshal([]byte(g.must("wakepoint ps -o json")), &rows); err != nil {
		g.t.Fatal(err)
	}
	var numbers []string
	for _, row := range rows {
		for _, pid := range []int{row.PID, row.KeeperPID} {
			for near := pid - 2; near <= pid+2; near++ {
				numbers = append(numbers, fmt.Sprint(near))
			}
		}
	}
	g.cut(g.survival())
	g.boot(g.next(), time.Time{})
	taken := strings.Fields(g.must("program occupy " + strings.Join(numbers, " ")))
	g.t.Logf("taken: %v", taken)
	if len(taken) != len(numbers) {
		g.t.Errorf("%d of %d process numbers are taken", len(taken), len(numbers))
	}
	g.bring()
	g.goesOn("program look "+adopted, 1)
}

// cutAndTurnClock boots with a clock that is a year wrong.
func cutAndTurnClock(g *rig) {
	g.promising()
	g.waitPromise()
	time.Sleep(g.within(2 * time.Second))
	g.cut(g.survival())
	years := []int{-1, 1}[g.made%2]
	g.boot(g.next(), time.Now().AddDate(years, 0, 0))
	g.t.Logf("the clock says %s", strings.TrimSpace(g.must("date")))
	g.bring()
}

// doom is more ticks than a program lives that is spoilt.
const doom = 600 + 100

// cutPoisoned spoils the program in secret. After the boot it dies of that,
// and so does whatever is restored from a generation that was taken since.
func cutPoisoned(g *rig) {
	g.promising()
	g.waitPromise()
	g.waitPromise()
	g.must("touch /run/mercy /run/poison")
	g.waitPromise()
	g.waitPromise() // this one is spoilt
	g.cut(g.survival())
	g.boot(g.next(), time.Time{})
	if err := g.recover(); err != nil {
		g.t.Fatal(err)
	}
	spoilt := g.look(g.of.look)
	g.promised = promise{} // from here on it may go back
	if g.left > 1 {
		time.Sleep(g.within(8 * time.Second))
		g.cut(g.survival())
		g.boot(g.next(), time.Time{})
		g.interrupted = interruptsMax + 1 // what is newest may be known to be bad
		if err := g.recover(); err != nil {
			g.t.Fatal(err)
		}
	}
	for count := uint64(0); count < spoilt+doom; time.Sleep(500 * time.Millisecond) {
		if g.ctx.Err() != nil {
			g.t.Fatalf("it does not get past %d, and was spoilt before %d", count, spoilt)
		}
		if r := g.try(g.of.look); r.Code == 0 {
			fmt.Sscan(r.Out, &count) // 0 when it says nothing
		}
	}
	lives := g.must("wakepoint logs " + g.of.name)
	if !strings.Contains(lives, "poisoned") {
		g.t.Errorf("it has never died: %s", lives)
	}
	g.t.Logf("its lives:\n%s", lives)
	g.whole()
}
