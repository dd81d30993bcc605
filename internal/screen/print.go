package screen

import "unicode/utf8"

// lineDrawing is what G0 or G1 show from '_' on when they are DEC's special
// graphics (xterm's ctlseqs, "Character Sets").
var lineDrawing = []rune(" ◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·")

// blank is an erased cell: of a style it keeps the background.
func blank(st style) cell { return cell{r: ' ', style: style{bg: st.bg}} }

func (l line) fill(from, to int, c cell) {
	if from >= to {
		return
	}
	l = l[from:to]
	l[0] = c
	for n := 1; n < len(l); n *= 2 {
		copy(l[n:], l[:n])
	}
}

// cut makes x a border between two characters: the halves of a wide one that
// lies across become blank.
func (l line) cut(x int) {
	if x > 0 && x < len(l) && l[x].tail {
		l[x-1], l[x] = blank(l[x-1].style), blank(l[x].style)
	}
}

// whole blanks a wide character before x that has lost its tail.
func (l line) whole(x int) {
	if x > 0 && l[x-1].wide && (x == len(l) || !l[x].tail) {
		l[x-1] = blank(l[x-1].style)
	}
}

// printASCII prints characters of one column, many at once.
func (s *Screen) printASCII(p []byte) {
	if s.cur.sets[s.cur.set] || s.modes&modeInsert != 0 {
		for _, c := range p {
			s.print(rune(c))
		}
		return
	}
	s.last = rune(p[len(p)-1])
	for len(p) > 0 {
		s.wrapped()
		x := s.cur.x
		n := min(len(p), s.cols-x)
		l := s.grid[s.cur.y]
		l.cut(x)
		l.cut(x + n)
		l.fill(x, x+n, cell{style: s.cur.style})
		to := l[x : x+n]
		for i, c := range p[:len(to)] {
			to[i].r = rune(c)
		}
		s.advance(n)
		p = p[n:]
		if s.modes&modeWrap == 0 && len(p) > 1 && s.cur.x == s.cols-1 {
			p = p[len(p)-1:] // they all fall on the last column
		}
	}
}

// wrapped goes to the next line if the last column was printed before.
func (s *Screen) wrapped() {
	if s.cur.wrap {
		s.cur.x, s.cur.wrap = 0, false
		s.index()
	}
}

// advance moves behind n columns that were printed.
func (s *Screen) advance(n int) {
	if s.cur.x += n; s.cur.x >= s.cols {
		s.cur.x, s.cur.wrap = s.cols-1, s.modes&modeWrap != 0
	}
}

// print prints one character, of any width.
func (s *Screen) print(r rune) {
	if s.cur.sets[s.cur.set] && r >= '_' && r < del {
		r = lineDrawing[r-'_']
	}
	w := 1
	if r >= 0x80 {
		if r < 0xa0 {
			return // controls that nobody sends in UTF-8
		}
		w = widthOf(r)
	}
	if w == 0 {
		s.mark(r)
		return
	}
	if w > s.cols {
		r, w = utf8.RuneError, 1
	}
	s.last = r
	s.wrapped()
	if s.cur.x+w > s.cols {
		if s.modes&modeWrap == 0 {
			return
		}
		s.cur.x = 0
		s.index()
	}
	x, l := s.cur.x, s.grid[s.cur.y]
	if s.modes&modeInsert != 0 {
		s.insert(w)
	}
	l.cut(x)
	l.cut(x + w)
	l[x] = cell{r: r, wide: w == 2, style: s.cur.style}
	if w == 2 {
		l[x+1] = cell{r: ' ', tail: true, style: s.cur.style}
	}
	s.advance(w)
}

// mark adds a combining character to the one before the cursor.
func (s *Screen) mark(r rune) {
	x, l := s.cur.x, s.grid[s.cur.y]
	if !s.cur.wrap {
		x--
	}
	if x >= 0 && l[x].tail {
		x--
	}
	if x < 0 {
		return
	}
	for i, m := range l[x].marks {
		if m == 0 {
			l[x].marks[i] = r
			return
		}
	}
}

// insert shifts the rest of the line by n columns.
func (s *Screen) insert(n int) {
	x, l := s.cur.x, s.grid[s.cur.y]
	n = min(n, s.cols-x)
	l.cut(x)
	copy(l[x+n:], l[x:])
	l.fill(x, x+n, blank(s.cur.style))
	l.whole(s.cols)
	s.cur.wrap = false
}

// remove takes n columns out of the line.
func (s *Screen) remove(n int) {
	x, l := s.cur.x, s.grid[s.cur.y]
	n = min(n, s.cols-x)
	l.cut(x)
	l.cut(x + n)
	copy(l[x:], l[x+n:])
	l.fill(s.cols-n, s.cols, blank(s.cur.style))
	s.cur.wrap = false
}

// eraseIn erases columns of the cursor's line.
func (s *Screen) eraseIn(from, to int) {
	l := s.grid[s.cur.y]
	to = min(to, s.cols)
	l.cut(from)
	l.cut(to)
	l.fill(from, to, blank(s.cur.style))
	s.cur.wrap = false
}

// erase erases whole lines.
func (s *Screen) erase(from, to int) {
	for y := from; y < to; y++ {
		s.grid[y].fill(0, s.cols, blank(s.cur.style))
	}
}

// index goes down one line, and scrolls at the end of the region.
func (s *Screen) index() {
	switch {
	case s.cur.y == s.bottom:
		s.scrollUp(s.top, 1)
	case s.cur.y < s.rows-1:
		s.cur.y++
	}
	s.cur.wrap = false
}

// scrollUp moves the lines of the region from top on up by n.
func (s *Screen) scrollUp(top, n int) {
	n = min(n, s.bottom-top+1)
	rotate(s.grid[top:s.bottom+1], n)
	s.erase(s.bottom+1-n, s.bottom+1)
}

func (s *Screen) scrollDown(top, n int) {
	n = min(n, s.bottom-top+1)
	rotate(s.grid[top:s.bottom+1], s.bottom+1-top-n)
	s.erase(top, top+n)
}

// rotate makes the first n lines the last ones.
func rotate(lines []line, n int) {
	if n == 1 {
		first := lines[0]
		copy(lines, lines[1:])
		lines[len(lines)-1] = first
		return
	}
	moved := append(append(make([]line, 0, len(lines)), lines[n:]...), lines[:n]...)
	copy(lines, moved)
}
