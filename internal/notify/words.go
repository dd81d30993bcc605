// Package notify is the socket on which a program speaks to its keeper, in the
// words of sd_notify(3) and some of our own.
//
// A datagram is lines of NAME=VALUE. What is not known is ignored, as
// sd_notify(3) wants it:
//
//	READY=1               it has started
//	STATUS=TEXT           what it is doing
//	STOPPING=1            it ends: when it then dies with code 0 that is an end
//	WATCHDOG=1            it is well
//	WATCHDOG=trigger      it is not
//	WATCHDOG_USEC=N       how long it may be silent
//	WAKEPOINT=checkpoint  take one now
//	WAKEPOINT=hold        none by the clock until go
//	WAKEPOINT=go
//	WAKEPOINT=durable     it keeps its own state: never roll its files back
package notify

import (
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Hold is whether checkpoints are to wait.
type Hold int8

// The words about that; the last one counts.
const (
	Unsaid Hold = iota
	Wait
	Go
)

// Words is what a program has said. The zero Words is nothing.
type Words struct {
	Ready, Stopping, Well, Ill, Checkpoint, Durable bool

	Status   string // the last one; "" is none, or that it was taken back
	Told     bool   // of Status
	Watchdog time.Duration
	Hold     Hold
	At       time.Time // when it last said that it is well
	Deaf     time.Time // until when not all was heard, since there was too much
}

const (
	statusMax   = 200 // bytes of a status
	watchdogMax = 365 * 24 * time.Hour
)

// Parse reads a datagram, whatever is in it.
func Parse(datagram []byte) (w Words) {
	for line := range strings.Lines(string(datagram)) {
		line = strings.TrimSuffix(line, "\n")
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		switch name {
		case "STATUS":
			w.Status, w.Told = plain(value), true
		case "WATCHDOG_USEC":
			if n, err := strconv.ParseUint(value, 10, 63); err == nil && n > 0 && n <= uint64(watchdogMax/time.Microsecond) {
				w.Watchdog = time.Duration(n) * time.Microsecond
			}
		}
		switch line {
		case "READY=1":
			w.Ready = true
		case "STOPPING=1":
			w.Stopping = true
		case "WATCHDOG=1":
			w.Well = true
		case "WATCHDOG=trigger":
			w.Ill = true
		case "WAKEPOINT=checkpoint":
			w.Checkpoint = true
		case "WAKEPOINT=hold":
			w.Hold = Wait
		case "WAKEPOINT=go":
			w.Hold = Go
		case "WAKEPOINT=durable":
			w.Durable = true
		}
	}
	return w
}

// plain makes a text one that a terminal can be shown.
func plain(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), statusMax)], "?")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// lasting is what still holds when somebody else listens: what the program wants
// just now is not of it, nor what was written down where it belongs.
func (w Words) lasting() Words {
	return Words{Ready: w.Ready, Stopping: w.Stopping, Well: w.Well, Status: w.Status, Told: w.Told, Watchdog: w.Watchdog}
}

// Then adds what was said later.
func (w Words) Then(l Words) Words {
	w.Ready = w.Ready || l.Ready
	w.Stopping = w.Stopping || l.Stopping
	w.Well = w.Well || l.Well
	w.Ill = w.Ill || l.Ill
	w.Checkpoint = w.Checkpoint || l.Checkpoint
	w.Durable = w.Durable || l.Durable
	if l.Told {
		w.Status, w.Told = l.Status, true
	}
	if l.Watchdog != 0 {
		w.Watchdog = l.Watchdog
	}
	if l.Hold != Unsaid {
		w.Hold = l.Hold
	}
	if l.At.After(w.At) {
		w.At = l.At
	}
	if l.Deaf.After(w.Deaf) {
		w.Deaf = l.Deaf
	}
	return w
}
