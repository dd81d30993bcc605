package screen

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// execute obeys a control character.
func (s *Screen) execute(c byte) {
	s.last = 0
	switch c {
	case '\b':
		s.moveTo(s.cur.x-1, s.cur.y)
	case '\t':
		s.tab(1)
	case '\n', '\v', '\f':
		s.index()
		if s.modes&modeNewLine != 0 {
			s.cur.x = 0
		}
	case '\r':
		s.moveTo(0, s.cur.y)
	case 0x0e, 0x0f: // SO, SI
		s.cur.set = int(0x0f - c)
	}
}

// escaped obeys ESC middle c.
func (s *Screen) escaped(middle, c byte) {
	s.last = 0
	switch {
	case middle == '(' || middle == ')':
		s.cur.sets[middle-'('] = c == '0'
	case middle == '#' && c == '8': // DECALN
		for _, l := range s.grid {
			l.fill(0, s.cols, cell{r: 'E'})
		}
		s.top, s.bottom = 0, s.rows-1
		s.home()
	case middle != 0:
	case c == '7':
		*s.slot() = s.cur
	case c == '8':
		s.restore()
	case c == 'D':
		s.index()
	case c == 'E':
		s.cur.x = 0
		s.index()
	case c == 'H':
		s.tabs[s.cur.x] = true
	case c == 'M':
		if s.cur.wrap = false; s.cur.y == s.top {
			s.scrollDown(s.top, 1)
		} else {
			s.moveTo(s.cur.x, s.cur.y-1)
		}
	case c == 'c':
		s.reset()
	case c == '=':
		s.modes |= modeKeypad
	case c == '>':
		s.modes &^= modeKeypad
	}
}

// slot is what DECSC saves the cursor to.
func (s *Screen) slot() *cursor {
	if s.alt != nil {
		return &s.saved[1]
	}
	return &s.saved[0]
}

func (s *Screen) restore() {
	s.cur = *s.slot()
	s.cur.wrap = s.cur.wrap && s.modes&modeWrap != 0
	s.inside()
}

// inside keeps the cursor in the scroll region, if it may not leave it.
func (s *Screen) inside() {
	if s.cur.origin && (s.cur.y < s.top || s.cur.y > s.bottom) {
		s.cur.y, s.cur.wrap = min(max(s.cur.y, s.top), s.bottom), false
	}
}

// moveTo puts the cursor somewhere on the screen.
func (s *Screen) moveTo(x, y int) {
	s.cur.x, s.cur.y, s.cur.wrap = min(max(x, 0), s.cols-1), min(max(y, 0), s.rows-1), false
}

// place is moveTo by the numbers of a program, which in origin mode count
// from the region.
func (s *Screen) place(x, y int) {
	if s.cur.origin {
		y = min(max(y, 0)+s.top, s.bottom)
	}
	s.moveTo(x, y)
}

func (s *Screen) home() { s.place(0, 0) }

// rise moves by n lines, not past the margin that is on the way.
func (s *Screen) rise(n int) {
	limit := 0
	if s.cur.y >= s.top {
		limit = s.top
	}
	s.moveTo(s.cur.x, max(s.cur.y-n, limit))
}

func (s *Screen) sink(n int) {
	limit := s.rows - 1
	if s.cur.y <= s.bottom {
		limit = s.bottom
	}
	s.moveTo(s.cur.x, min(s.cur.y+n, limit))
}

// tab goes n tab stops on, or back.
func (s *Screen) tab(n int) {
	x := s.cur.x
	for ; n > 0 && x < s.cols-1; n-- {
		for x++; x < s.cols-1 && !s.tabs[x]; x++ {
		}
	}
	for ; n < 0 && x > 0; n++ {
		for x--; x > 0 && !s.tabs[x]; x-- {
		}
	}
	if x != s.cur.x {
		s.moveTo(x, s.cur.y)
	}
}

// number is the i-th number of the sequence, at least 1.
func (s *Screen) number(i int) int {
	if i >= len(s.params) {
		return 1
	}
	return max(s.params[i].value, 1)
}

// choice is the first number, or 0.
func (s *Screen) choice() int { return max(s.params[0].value, 0) }

// controlled obeys a control sequence.
func (s *Screen) controlled(c byte) {
	if c != 'b' {
		defer func() { s.last = 0 }()
	}
	switch {
	case s.prefix == '?' && s.middle == 0:
		s.private(c)
	case s.prefix == '>' && s.middle == 0 && c == 'm':
		if s.choice() == 4 { // modifyOtherKeys
			s.keys = 0
			if len(s.params) > 1 {
				s.keys = min(max(s.params[1].value, 0), 2)
			}
		}
	case s.prefix != 0:
	case s.middle == ' ' && c == 'q':
		if n := s.choice(); n <= 6 {
			s.shape = n
		}
	case s.middle == '!' && c == 'p':
		s.soft()
	case s.middle == 0:
		if !s.moved(c) && !s.edited(c) {
			s.switched(c)
		}
	}
}

// moved obeys what moves the cursor.
func (s *Screen) moved(c byte) bool {
	n, x, y := s.number(0), s.cur.x, s.cur.y
	switch c {
	case 'A':
		s.rise(n)
	case 'B', 'e':
		s.sink(n)
	case 'C', 'a':
		s.moveTo(x+n, y)
	case 'D':
		s.moveTo(x-n, y)
	case 'E':
		s.sink(n)
		s.cur.x = 0
	case 'F':
		s.rise(n)
		s.cur.x = 0
	case 'G', '`':
		s.moveTo(n-1, y)
	case 'H', 'f':
		s.place(s.number(1)-1, n-1)
	case 'd':
		s.place(x, n-1)
	case 'I':
		s.tab(n)
	case 'Z':
		s.tab(-n)
	default:
		return false
	}
	return true
}

// edited obeys what changes the contents.
func (s *Screen) edited(c byte) bool {
	n := s.number(0)
	within := s.cur.y >= s.top && s.cur.y <= s.bottom
	switch c {
	case '@':
		s.insert(n)
	case 'P':
		s.remove(n)
	case 'X':
		s.eraseIn(s.cur.x, s.cur.x+n)
	case 'J':
		s.eraseDisplay()
	case 'K':
		s.eraseLine()
	case 'L':
		if within {
			s.scrollDown(s.cur.y, n)
			s.moveTo(0, s.cur.y)
		}
	case 'M':
		if within {
			s.scrollUp(s.cur.y, n)
			s.moveTo(0, s.cur.y)
		}
	case 'S':
		s.scrollUp(s.top, n)
	case 'T':
		if len(s.params) == 1 {
			s.scrollDown(s.top, n)
		}
	case 'b':
		r := s.last
		for range min(n, s.rows*s.cols) {
			if r != 0 {
				s.print(r)
			}
		}
	default:
		return false
	}
	return true
}

func (s *Screen) eraseLine() {
	switch s.choice() {
	case 0:
		s.eraseRight()
	case 1:
		s.eraseIn(0, s.cur.x+1)
	case 2:
		s.eraseIn(0, s.cols)
	}
}

// eraseRight erases what is right of a cursor that is about to wrap: nothing,
// or programs that fill the line and then erase its end would lose a column.
func (s *Screen) eraseRight() {
	if !s.cur.wrap {
		s.eraseIn(s.cur.x, s.cols)
	}
}

func (s *Screen) eraseDisplay() {
	switch s.choice() {
	case 0:
		s.eraseRight()
		s.erase(s.cur.y+1, s.rows)
	case 1:
		s.eraseIn(0, s.cur.x+1)
		s.erase(0, s.cur.y)
	case 2:
		s.erase(0, s.rows)
	}
}

// finish obeys an OSC: only titles are of interest.
func (s *Screen) finish() {
	number, words, _ := bytes.Cut(s.raw[2:], []byte(";"))
	n, err := strconv.Atoi(string(number))
	if err == nil && n >= 0 && n <= 2 {
		title := shown(words)
		if n != 1 {
			s.title[0] = title
		}
		if n != 2 {
			s.title[1] = title
		}
	}
	s.last = 0
	s.leave()
}

// shown is text without what is no character.
func shown(p []byte) string {
	var b []byte
	for len(p) > 0 {
		r, n := utf8.DecodeRune(p)
		p = p[n:]
		if r >= ' ' && (r < del || r >= 0xa0) && r != utf8.RuneError {
			b = utf8.AppendRune(b, r)
		}
	}
	return string(b)
}
