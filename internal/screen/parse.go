package screen

import "unicode/utf8"

// Bounds of one sequence. What is longer is read to its end and not obeyed.
const (
	paramsMax = 32
	valueMax  = 1 << 16
	rawMax    = 512  // bytes of a control sequence
	textMax   = 1024 // bytes of an OSC
)

type state uint8

const (
	ground    state = iota
	character       // inside a character of several bytes
	escape
	escapeMore // ESC with intermediate bytes
	control    // CSI
	ignored    // CSI that makes no sense
	command    // OSC
	text       // DCS, SOS, PM, APC: nobody here reads them
)

const (
	can = 0x18
	sub = 0x1a
	esc = 0x1b
	del = 0x7f
)

// param is a number of a control sequence; -1 is none. more: a colon came
// before it.
type param struct {
	value int
	more  bool
}

// parser is where in a sequence the stream stands: the states of Paul
// Williams' VT500 parser (vt100.net/emu/dec_ansi_parser), with UTF-8 in place
// of 8-bit controls.
type parser struct {
	state  state
	raw    []byte // of the sequence or character that is not at its end yet
	params []param
	prefix byte // one of < = > ?, or 0
	middle byte // an intermediate byte, or 0
}

// Write feeds p. It takes everything that there is, and never fails.
func (s *Screen) Write(p []byte) (int, error) {
	for i := 0; i < len(p); {
		if s.state == ground {
			j := i
			for j < len(p) && p[j] >= ' ' && p[j] < del {
				j++
			}
			if j > i {
				s.printASCII(p[i:j])
				i = j
				continue
			}
		}
		s.step(p[i])
		i++
	}
	return len(p), nil
}

func (s *Screen) step(c byte) {
	switch {
	case s.state == character:
		s.inCharacter(c)
	case c == esc:
		if s.state == command {
			s.finish()
		}
		s.enter(c)
	case c == can || c == sub:
		s.leave()
	case s.state == command:
		s.inCommand(c)
	case s.state == text:
	case c < ' ':
		s.execute(c)
	case s.state == ground:
		s.start(c)
	case s.state == escape || s.state == escapeMore:
		s.inEscape(c)
	case s.state == control:
		s.inControl(c)
	case c >= 0x40 && c < del: // the end of one that is ignored
		s.leave()
	}
}

// enter begins a sequence.
func (s *Screen) enter(c byte) {
	s.state, s.raw = escape, append(s.raw[:0], c)
	s.params, s.prefix, s.middle = s.params[:0], 0, 0
}

// leave goes back to plain characters.
func (s *Screen) leave() { s.state, s.raw = ground, s.raw[:0] }

func (s *Screen) start(c byte) {
	switch {
	case c < del:
		s.print(rune(c))
	case c >= utf8.RuneSelf:
		s.state, s.raw = character, s.raw[:0]
		s.inCharacter(c)
	}
}

// inCharacter collects the bytes of one character. Each byte that belongs to
// none is shown as U+FFFD.
func (s *Screen) inCharacter(c byte) {
	s.raw = append(s.raw, c)
	if !utf8.FullRune(s.raw) {
		return
	}
	var rest [utf8.UTFMax]byte
	r, n := utf8.DecodeRune(s.raw)
	m := copy(rest[:], s.raw[n:])
	s.leave()
	s.print(r)
	for _, c := range rest[:m] {
		s.step(c)
	}
}

func (s *Screen) inEscape(c byte) {
	s.raw = append(s.raw, c)
	switch {
	case c < '0':
		if s.state = escapeMore; s.middle != 0 || len(s.raw) > rawMax {
			c = del // no sequence of ours has two
		}
		s.middle = c
		s.raw = s.raw[:min(len(s.raw), 3)]
	case s.state == escape && c == '[':
		s.state = control
		s.params = append(s.params, param{value: -1})
	case s.state == escape && c == ']':
		s.state = command
	case s.state == escape && (c == 'P' || c == 'X' || c == '^' || c == '_'):
		s.state = text
	default:
		middle := s.middle
		s.leave()
		s.escaped(middle, c)
	}
}

func (s *Screen) inControl(c byte) {
	s.raw = append(s.raw, c)
	p := &s.params[len(s.params)-1]
	switch {
	case c >= '0' && c <= '9' && s.middle == 0:
		p.value = min(max(p.value, 0)*10+int(c-'0'), valueMax)
	case (c == ';' || c == ':') && s.middle == 0 && len(s.params) < paramsMax:
		s.params = append(s.params, param{value: -1, more: c == ':'})
	case c >= '<' && c <= '?' && len(s.raw) == 3:
		s.prefix = c
	case c < '0' && s.middle == 0:
		s.middle = c
	case c >= 0x40 && c < del:
		s.leave()
		s.controlled(c)
		return
	case c == del:
		s.raw = s.raw[:len(s.raw)-1]
	default:
		s.ignore()
	}
	if len(s.raw) > rawMax {
		s.ignore()
	}
}

// ignore waits for the end of a sequence that makes no sense. A prefix after
// a number leads here, in other terminals too.
func (s *Screen) ignore() { s.state, s.raw = ignored, append(s.raw[:0], "\x1b[0<"...) }

func (s *Screen) inCommand(c byte) {
	switch {
	case c == '\a':
		s.finish()
	case c >= ' ' && len(s.raw) < textMax:
		s.raw = append(s.raw, c)
	}
}
