package durabletest

import (
	"fmt"
	"strconv"
	"strings"
)

// path is what happens in a try, before the check at its end.
type path []step

// step is Run or Check, and how it ends.
type step struct {
	who   string // run, check
	call  int    // at which the power is cut, the program killed, or which fails
	fault string // "", or fail, lie, fail-on, lie-on: it fails, and those behind it
	kill  bool
	keep  Survivors // where it is cut
}

// String returns "run 17 cut 3", "run 17 fail-on cut 3" or "check 2 kill".
func (s step) String() string {
	words := []string{s.who, strconv.Itoa(s.call)}
	if s.fault != "" {
		words = append(words, s.fault)
	}
	if s.kill {
		return strings.Join(append(words, "kill"), " ")
	}
	return strings.Join(append(words, "cut", strconv.FormatUint(uint64(s.keep), 10)), " ")
}

func (p path) String() string {
	var all []string
	for _, s := range p {
		all = append(all, s.String())
	}
	return strings.Join(all, ", ")
}

// parsePath reads what String returned.
func parsePath(text string) (p path, err error) {
	for part := range strings.SplitSeq(text, ", ") {
		w := strings.Fields(part)
		var s step
		if len(w) > 2 && (w[0] == "run" || w[0] == "check") {
			s.who = w[0]
			s.call, _ = strconv.Atoi(w[1])
			w = w[2:]
			if len(w) > 1 && w[0] != "cut" {
				s.fault, w = w[0], w[1:]
			}
			if s.kill = w[0] == "kill"; !s.kill && len(w) == 2 {
				keep, _ := strconv.ParseUint(w[1], 10, 64)
				s.keep = Survivors(keep)
			}
		}
		if s.String() != part || s.call < 1 {
			return nil, fmt.Errorf("no such try: %q", part)
		}
		p = append(p, s)
	}
	return p, nil
}

// prepare makes it happen.
func (s step) prepare(d *Disk, err error) {
	if s.fault == "" {
		d.CutAt(s.call)
		return
	}
	f := Fault{After: s.call - 1, Err: err, Done: strings.HasPrefix(s.fault, "lie")}
	if !strings.HasSuffix(s.fault, "-on") {
		f.Times = 1
	}
	d.Inject(f)
}

// happened says what happened, when it has: before is the calls until then.
func (s step) happened(d *Disk, before int) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	end, at := "the power cut, "+s.keep.String(), fmt.Sprintf("before its call %d, %v", s.call, d.last)
	if s.kill {
		end = "killed"
	}
	if s.fault != "" {
		return fmt.Sprintf("%s, %s from call %d, %v; %s at its end:\n", s.who, s.fault, s.call, d.failed, end)
	}
	if d.calls < before+s.call {
		at = "at its end"
	}
	return fmt.Sprintf("%s, %s %s:\n", s.who, end, at)
}

// after is the disk that is left.
func (s step) after(d *Disk) *Disk {
	if s.kill {
		return d.Kill()
	}
	return d.Cut(s.keep)
}
