package terminal

import "strconv"

// modes follows which private modes (DECSET, `CSI ? n h`) a program switches
// in the viewer's terminal, so that leaving in the middle of a full-screen
// program gives the person's terminal back as it was. See xterm's
// ctlseqs, "DEC Private Mode Set".
type modes struct {
	state int
	num   int
	nums  []int
	on    map[int]bool // switched away from its normal state
	style bool         // colours or attributes may be on
}

const (
	stText = iota
	stEsc
	stCSI
	stPrivate
)

// watched modes and whether they are normally on.
var watchedModes = []struct {
	number int
	normal bool
}{
	{1, false}, {7, true}, {25, true}, {47, false},
	{9, false}, {1000, false}, {1002, false}, {1003, false}, {1004, false}, {1005, false}, {1006, false}, {1015, false},
	{2004, false}, {1047, false}, {1049, false}, // the alternate screen last
}

// feed reads what the program prints.
func (m *modes) feed(p []byte) {
	for _, c := range p {
		switch {
		case c == 0x1b:
			m.state = stEsc
		case m.state == stEsc && c == '[':
			m.state = stCSI
		case m.state == stCSI && c == '?':
			m.state, m.num, m.nums = stPrivate, 0, m.nums[:0]
		case m.state == stCSI && (c >= '0' && c <= '9' || c == ';' || c == ':'):
		case m.state == stCSI:
			m.style = m.style || c == 'm'
			m.state = stText
		case m.state == stPrivate && c >= '0' && c <= '9':
			m.num = min(m.num*10+int(c-'0'), 1<<16)
		case m.state == stPrivate && c == ';' && len(m.nums) < 32:
			m.nums, m.num = append(m.nums, m.num), 0
		case m.state == stPrivate:
			if c == 'h' || c == 'l' {
				m.set(append(m.nums, m.num), c == 'h')
			}
			m.state = stText
		default:
			m.state = stText
		}
	}
}

func (m *modes) set(numbers []int, to bool) {
	for _, n := range numbers {
		for _, w := range watchedModes {
			if w.number != n {
				continue
			}
			if m.on == nil {
				m.on = map[int]bool{}
			}
			m.on[n] = to != w.normal
		}
	}
}

// undo returns what puts the terminal back: nothing if nothing was changed.
func (m *modes) undo() []byte {
	var out []byte
	if m.style {
		out = append(out, "\x1b[m"...)
	}
	for _, w := range watchedModes {
		if !m.on[w.number] {
			continue
		}
		end := byte('l')
		if w.normal {
			end = 'h'
		}
		out = append(strconv.AppendInt(append(out, "\x1b[?"...), int64(w.number), 10), end)
	}
	return out
}
