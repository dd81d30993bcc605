// Package screen is a terminal's screen as a value: it is fed with what a
// program prints, and gives the bytes that draw the same screen elsewhere.
package screen

import (
	"encoding/binary"
	"errors"
	"strings"
)

// Limits of a screen, whatever size the terminal says it has: what lies beyond
// is not kept. Memory and work stay bounded by them.
const (
	rowsMax = 300
	colsMax = 1000
)

// Size of a terminal in characters. 0x0 is one that nobody knows.
type Size struct{ Rows, Cols int }

// Known says whether s is a size at all.
func (s Size) Known() bool { return s.Rows > 0 && s.Cols > 0 }

func (s Size) bounded() Size {
	if !s.Known() {
		return Size{24, 80}
	}
	return Size{min(s.Rows, rowsMax), min(s.Cols, colsMax)}
}

// Screen is what a terminal shows and the modes it is in: an xterm as far as
// programs use one (xterm's ctlseqs; ECMA-48), always in UTF-8. It answers no
// question of the program: the viewer's terminal does that.
//
// What it does not know: colours that the program redefines, hyperlinks,
// pictures, left and right margins, and history that has scrolled away. The
// zero value is not valid. It is not safe for use by several goroutines.
type Screen struct {
	rows, cols int
	main, alt  []line // alt is nil while the main one is shown
	grid       []line // the one shown
	cur        cursor
	saved      [2]cursor // by DECSC: of main, of alt
	top        int       // of the scroll region; cur is inside it in origin mode
	bottom     int       // its last line
	tabs       []bool

	modes uint32
	mouse int       // the mode that reports the mouse: 9, 1000, 1002 or 1003; 0 is none
	shape int       // of the cursor (DECSCUSR), 0 to 6
	keys  int       // modifyOtherKeys, 0 to 2
	title [2]string // of the window, of the icon

	last rune // what REP repeats; 0 is nothing
	parser
}

type line []cell

// cell is one column of one line. Of a wide character the second column is
// a tail. It holds no pointer: lines are written much more often than read.
type cell struct {
	r     rune
	tail  bool
	wide  bool
	style style
	marks [3]rune // combining characters; there are no more
}

// cursor is what DECSC saves.
type cursor struct {
	x, y   int
	wrap   bool // the last column was printed: the next character wraps
	origin bool
	style  style
	sets   [2]bool // G0, G1: line drawing instead of ASCII
	set    int     // which of them is in use
}

// New returns an empty screen.
func New(size Size) *Screen {
	size = size.bounded()
	s := &Screen{rows: size.Rows, cols: size.Cols}
	s.main = newLines(s.rows, s.cols)
	s.grid = s.main
	s.reset()
	return s
}

func newLines(rows, cols int) []line {
	cells := make([]cell, rows*cols)
	lines := make([]line, rows)
	for i := range lines {
		lines[i] = cells[i*cols : (i+1)*cols : (i+1)*cols]
		lines[i].fill(0, cols, blank(style{}))
	}
	return lines
}

// reset is RIS: all but the title as at the beginning.
func (s *Screen) reset() {
	s.alt, s.grid = nil, s.main
	s.cur, s.saved = cursor{}, [2]cursor{}
	s.top, s.bottom = 0, s.rows-1
	s.tabs = appendTabs(nil, s.cols)
	s.modes, s.mouse, s.shape, s.keys, s.last = modeWrap|modeVisible, 0, 0, 0, 0
	s.erase(0, s.rows)
}

// appendTabs extends tab stops to cols columns, one every eight.
func appendTabs(tabs []bool, cols int) []bool {
	for x := len(tabs); x < cols; x++ {
		tabs = append(tabs, x > 0 && x%8 == 0)
	}
	return tabs[:cols]
}

// Size is the size that is kept.
func (s *Screen) Size() Size { return Size{s.rows, s.cols} }

// Resize does what xterm does: nothing is wrapped anew, lines are cut or grow
// at their end, and where there are fewer lines those above go, as far as the
// cursor's would. A size that is not known changes nothing.
func (s *Screen) Resize(size Size) {
	if !size.Known() || size.bounded() == s.Size() {
		return
	}
	size = size.bounded()
	if s.alt != nil {
		s.main = s.resized(s.main, &s.saved[0], size)
		s.alt = s.resized(s.alt, &s.cur, size)
		s.grid = s.alt
		s.saved[1] = s.saved[1].within(size)
	} else {
		s.main = s.resized(s.main, &s.cur, size)
		s.grid = s.main
		s.saved[0] = s.saved[0].within(size)
	}
	s.rows, s.cols = size.Rows, size.Cols
	s.top, s.bottom = 0, s.rows-1
	s.tabs = appendTabs(s.tabs[:min(len(s.tabs), s.cols)], s.cols)
}

// resized returns lines at another size, and moves the cursor with its line.
func (s *Screen) resized(lines []line, c *cursor, size Size) []line {
	out := newLines(size.Rows, size.Cols)
	above := max(c.y-size.Rows+1, 0)
	for y := range min(len(lines)-above, size.Rows) {
		n := copy(out[y], lines[y+above])
		out[y].whole(n)
	}
	c.y -= above
	*c = c.within(size)
	return out
}

func (c cursor) within(size Size) cursor {
	c.x, c.y, c.wrap = min(c.x, size.Cols-1), min(c.y, size.Rows-1), false
	return c
}

// String is the text that is shown, without blanks at the ends of lines and
// of the screen.
func (s *Screen) String() string {
	var b strings.Builder
	for _, l := range s.grid {
		b.WriteString(l.String())
		b.WriteByte('\n')
	}
	return strings.TrimRight(b.String(), "\n")
}

func (l line) String() string {
	var b strings.Builder
	for _, c := range l {
		if c.tail {
			continue
		}
		b.WriteRune(c.r)
		for _, m := range c.marks {
			if m != 0 {
				b.WriteRune(m)
			}
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// The encoding of a screen in a generation (doc/format.md, "screen"): version
// (1 byte, 1), rows (2), columns (2), both big endian, and the redraw of it.
const (
	encodingVersion = 1
	encodingHeader  = 5
	encodedMax      = 1 << 20
)

var errEncoding = errors.New("not a screen")

// Encode returns the screen as at most 1 MiB.
func (s *Screen) Encode() []byte {
	b := []byte{encodingVersion}
	b = binary.BigEndian.AppendUint16(b, uint16(s.rows))
	b = binary.BigEndian.AppendUint16(b, uint16(s.cols))
	return append(b, s.Redraw(Size{})...)
}

// Decode returns an encoded screen.
func Decode(b []byte) (*Screen, error) {
	if len(b) < encodingHeader || len(b) > encodedMax || b[0] != encodingVersion {
		return nil, errEncoding
	}
	size := Size{int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:]))}
	if size != size.bounded() {
		return nil, errEncoding
	}
	s := New(size)
	s.Write(b[encodingHeader:])
	return s, nil
}
