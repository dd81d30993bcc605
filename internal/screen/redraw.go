package screen

import (
	"strconv"
	"unicode/utf8"
)

// Redraw returns what makes a terminal in its normal state show this screen:
// contents, cursor, modes, title, and below the alternate screen the main one.
// A terminal of another size shows what fits, from the top left corner. At the
// end stands what has come of a sequence that is not complete, so that what
// the program prints next can follow. It is at most 1 MiB: of a screen that
// takes more the attributes are left out, and then the contents.
func (s *Screen) Redraw(viewer Size) []byte {
	var b []byte
	for detail := everything; detail >= stateAlone; detail-- {
		r := redraw{s: s, viewer: viewer, detail: detail}
		if b = r.all(); len(b) <= encodedMax-encodingHeader {
			break
		}
	}
	return b
}

const (
	stateAlone = iota
	noStyles
	everything
)

type redraw struct {
	s      *Screen
	viewer Size
	detail int
	b      []byte
	pen    style
}

func (r *redraw) say(words ...string) {
	for _, w := range words {
		r.b = append(r.b, w...)
	}
}

// number says CSI n... end.
func (r *redraw) number(prefix, end string, ns ...int) {
	r.say("\x1b[", prefix)
	for i, n := range ns {
		if i > 0 {
			r.say(";")
		}
		r.b = strconv.AppendInt(r.b, int64(n), 10)
	}
	r.say(end)
}

func (r *redraw) all() []byte {
	s := r.s
	r.say("\x1b[r\x1b[?6l\x1b[4l\x1b[20l\x1b[?7h\x1b[?5;45l\x1b[?25h")
	r.lines(s.main)
	r.cursor(s.saved[0], s.main, 0)
	if s.alt != nil {
		r.say("\x1b[?1049h")
		r.lines(s.alt)
		r.cursor(s.saved[1], s.alt, 0)
	}
	r.say("\x1b7")
	r.state()
	if s.top != 0 || s.bottom != s.rows-1 {
		r.number("", "r", s.top+1, s.bottom+1)
	}
	r.cursor(s.cur, s.grid, s.top)
	if s.modes&modeInsert != 0 {
		r.say("\x1b[4h")
	}
	if s.modes&modeNewLine != 0 {
		r.say("\x1b[20h")
	}
	if s.modes&modeWrap == 0 {
		r.say("\x1b[?7l")
	}
	if s.modes&modeVisible == 0 {
		r.say("\x1b[?25l")
	}
	r.b = append(r.b, s.raw...)
	return r.b
}

// lines draws contents.
func (r *redraw) lines(lines []line) {
	r.say("\x1b[?6l\x1b(B\x1b)B\x0f\x1b[0m\x1b[H\x1b[2J")
	r.pen = style{}
	if r.detail == stateAlone {
		return
	}
	for y, l := range lines {
		if r.viewer.Known() && y >= r.viewer.Rows {
			return
		}
		end := len(l)
		for end > 0 && l[end-1] == blank(style{}) {
			end--
		}
		if end == 0 {
			continue
		}
		r.number("", "H", y+1)
		for x, c := range l[:end] {
			if r.viewer.Known() && x+c.columns() > r.viewer.Cols {
				break
			}
			r.cell(c)
		}
	}
}

func (c cell) columns() int {
	if c.wide {
		return 2
	}
	return 1
}

func (r *redraw) cell(c cell) {
	if c.tail {
		return
	}
	if c.style != r.pen && r.detail == everything {
		r.pen = c.style
		r.b = c.style.append(r.b)
	}
	r.b = utf8.AppendRune(r.b, c.r)
	for _, m := range c.marks {
		if m != 0 {
			r.b = utf8.AppendRune(r.b, m)
		}
	}
}

// cursor makes c the cursor. One that is about to wrap is made by printing
// once more what is in the last column. In origin mode c must be inside the
// region, which begins at top.
func (r *redraw) cursor(c cursor, lines []line, top int) {
	x, y, l := c.x, c.y, lines[c.y]
	if c.origin {
		r.say("\x1b[?6h")
		y -= top
	} else {
		r.say("\x1b[?6l")
	}
	r.say("\x1b(B\x1b)B\x0f")
	if c.wrap && l[x].tail {
		x--
	}
	r.number("", "H", y+1, x+1)
	if c.wrap && (!r.viewer.Known() || r.viewer == r.s.Size()) {
		r.pen = style{fg: ^colour(0)}
		r.cell(l[x])
	}
	for i, drawing := range c.sets {
		if drawing {
			r.say([]string{"\x1b(0", "\x1b)0"}[i])
		}
	}
	if c.set == 1 {
		r.say("\x0e")
	}
	r.b = c.style.append(r.b)
}

// state says what has nothing to do with the contents.
func (r *redraw) state() {
	s := r.s
	for i, code := range []string{"2", "1"} {
		if s.title[i] != "" {
			r.say("\x1b]", code, ";", s.title[i], "\a")
		}
	}
	if !equalTabs(s.tabs, appendTabs(nil, s.cols)) {
		r.say("\x1b[3g")
		for x, stop := range s.tabs {
			if stop {
				r.number("", "G", x+1)
				r.say("\x1bH")
			}
		}
	}
	for _, n := range []int{9, 1000, 1002, 1003} {
		if s.mouse == n {
			r.number("?", "h", n)
		}
	}
	for _, m := range privateModes {
		if m.bit != modeWrap && m.bit != modeVisible && m.bit != modeKeypad && s.modes&m.bit != 0 {
			r.number("?", "h", m.number)
		}
	}
	if s.modes&modeKeypad != 0 {
		r.say("\x1b=")
	}
	if s.shape != 0 {
		r.number("", " q", s.shape)
	}
	if s.keys != 0 {
		r.number(">4;", "m", s.keys)
	}
}

func equalTabs(a, b []bool) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// Leave returns what gives a terminal that shows this screen back in its
// normal state: nothing where nothing was changed.
func (s *Screen) Leave() []byte {
	r := redraw{s: s}
	if s.state != ground {
		r.say("\x18") // CAN ends what is not complete
	}
	if s.alt != nil {
		r.say("\x1b[?1049l")
	}
	if s.top != 0 || s.bottom != s.rows-1 {
		r.say("\x1b7\x1b[r\x1b8") // which would send the cursor home
	}
	if s.cur.origin || s.saved[0].origin {
		r.say("\x1b[?6l")
	}
	if s.mouse != 0 {
		r.number("?", "l", s.mouse)
	}
	for _, m := range privateModes {
		normal := m.bit == modeWrap || m.bit == modeVisible
		if on := s.modes&m.bit != 0; on != normal && m.bit != modeKeypad {
			r.number("?", map[bool]string{true: "l", false: "h"}[on], m.number)
		}
	}
	for _, m := range []struct {
		on  bool
		off string
	}{
		{s.modes&modeInsert != 0, "\x1b[4l"}, {s.modes&modeNewLine != 0, "\x1b[20l"}, {s.modes&modeKeypad != 0, "\x1b>"},
		{s.shape != 0, "\x1b[0 q"}, {s.keys != 0, "\x1b[>4m"}, {s.cur.set != 0 || s.saved[0].set != 0, "\x0f"},
		{s.cur.sets != [2]bool{} || s.saved[0].sets != [2]bool{}, "\x1b(B\x1b)B"},
		{s.cur.style != style{} || s.saved[0].style != style{}, "\x1b[m"},
	} {
		if m.on {
			r.say(m.off)
		}
	}
	return r.b
}
