package screen

// Modes that are on or off.
const (
	modeInsert     uint32 = 1 << iota // IRM
	modeNewLine                       // LNM
	modeKeypad                        // DECKPAM
	modeCursorKeys                    // the rest are DEC's private modes, and xterm's
	modeReverse
	modeWrap
	modeBackwards // reverse wraparound
	modeVisible
	modeFocus
	modeMouseUTF8
	modeMouseSGR
	modeMouseURXVT
	modeMousePixels
	modeWheelKeys
	modePaste
)

// private modes by their numbers (xterm's ctlseqs, "DEC Private Mode Set").
// Those that report the mouse exclude each other and stand in Screen.mouse.
var privateModes = []struct {
	number int
	bit    uint32
}{
	{1, modeCursorKeys}, {5, modeReverse}, {7, modeWrap}, {25, modeVisible}, {45, modeBackwards}, {66, modeKeypad},
	{1004, modeFocus}, {1005, modeMouseUTF8}, {1006, modeMouseSGR}, {1015, modeMouseURXVT}, {1016, modeMousePixels},
	{1007, modeWheelKeys}, {2004, modePaste},
}

// private obeys CSI ? ... c.
func (s *Screen) private(c byte) {
	switch c {
	case 'h', 'l':
		for _, p := range s.params {
			s.setPrivate(p.value, c == 'h')
		}
	case 'J':
		s.eraseDisplay()
	case 'K':
		s.eraseLine()
	}
}

func (s *Screen) setPrivate(number int, on bool) {
	switch number {
	case 6:
		s.cur.origin = on
		s.home()
	case 9, 1000, 1002, 1003:
		if s.mouse = 0; on {
			s.mouse = number
		}
	case 47, 1047:
		s.alternate(on)
	case 1048:
		if on {
			*s.slot() = s.cur
		} else {
			s.restore()
		}
	case 1049:
		if on == (s.alt != nil) {
			return
		}
		if on {
			s.saved[0] = s.cur
		}
		if s.alternate(on); !on {
			s.restore()
		}
	}
	for _, m := range privateModes {
		if m.number == number {
			s.setMode(m.bit, on)
		}
	}
}

func (s *Screen) setMode(bit uint32, on bool) {
	if s.modes &^= bit; on {
		s.modes |= bit
	}
	if s.modes&modeWrap == 0 {
		s.cur.wrap = false
	}
}

// alternate shows the other screen. The alternate one is always empty when it
// comes.
func (s *Screen) alternate(on bool) {
	switch {
	case on && s.alt == nil:
		s.alt = newLines(s.rows, s.cols)
		s.grid, s.saved[1] = s.alt, cursor{}
		s.cur.wrap = false
	case !on && s.alt != nil:
		s.alt, s.grid, s.saved[1] = nil, s.main, cursor{}
		s.cur.wrap = false
	}
}

// switched obeys what changes neither the contents nor moves, except that a
// new region sends the cursor home.
func (s *Screen) switched(c byte) {
	switch c {
	case 'h', 'l':
		for _, p := range s.params {
			switch p.value {
			case 4:
				s.setMode(modeInsert, c == 'h')
			case 20:
				s.setMode(modeNewLine, c == 'h')
			}
		}
	case 'm':
		s.cur.style.sgr(s.params)
	case 'g':
		switch s.choice() {
		case 0:
			s.tabs[s.cur.x] = false
		case 3:
			clear(s.tabs)
		}
	case 'r':
		top, bottom := s.number(0)-1, s.rows-1
		if len(s.params) > 1 && s.params[1].value > 0 {
			bottom = min(s.params[1].value-1, bottom)
		}
		if top < bottom {
			s.top, s.bottom = top, bottom
			s.home()
		}
	case 's':
		if len(s.params) == 1 && s.params[0].value < 0 { // else it sets margins
			*s.slot() = s.cur
		}
	case 'u':
		s.restore()
	}
}

// soft is DECSTR.
func (s *Screen) soft() {
	s.modes = s.modes&^(modeInsert|modeKeypad|modeCursorKeys|modeBackwards) | modeVisible | modeWrap
	s.top, s.bottom = 0, s.rows-1
	s.cur.origin, s.cur.style, s.cur.sets, s.cur.set = false, style{}, [2]bool{}, 0
	*s.slot() = cursor{}
}
