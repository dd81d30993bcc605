package screen

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sameScreen compares all that a redraw promises.
func sameScreen(t *testing.T, want, got *Screen) {
	t.Helper()
	a, b := *want, *got
	for _, s := range []*Screen{&a, &b} {
		s.last, s.grid = 0, nil
		s.raw = append([]byte{}, s.raw...)
		s.params = append([]param{}, s.params...)
		if s.state != control {
			s.params, s.prefix = nil, 0
		}
		if s.state != control && s.state != escapeMore {
			s.middle = 0
		}
	}
	if reflect.DeepEqual(a, b) { // much faster
		return
	}
	if diff := cmp.Diff(a, b, cmp.AllowUnexported(Screen{}, cell{}, cursor{}, style{}, parser{}, param{})); diff != "" {
		t.Fatalf("what was drawn, what came of the redraw:\n%s\n%q", diff, want.Redraw(Size{}))
	}
}

// valid holds what every screen keeps to.
func valid(t *testing.T, s *Screen) {
	t.Helper()
	if len(s.grid) != s.rows || s.top < 0 || s.top > s.bottom || s.bottom >= s.rows || len(s.tabs) != s.cols {
		t.Fatalf("%d lines of %d, region %d to %d, %d tabs", len(s.grid), s.rows, s.top, s.bottom, len(s.tabs))
	}
	if c := s.cur; c.x < 0 || c.x >= s.cols || c.y < 0 || c.y >= s.rows || c.wrap && c.x != s.cols-1 || c.origin && (c.y < s.top || c.y > s.bottom) {
		t.Fatalf("cursor %+v on %dx%d, region %d to %d", c, s.cols, s.rows, s.top, s.bottom)
	}
	for y, l := range s.grid {
		for x, c := range l {
			if c.wide != (x+1 < len(l) && l[x+1].tail) || x == 0 && c.tail {
				t.Fatalf("line %d, column %d: half of a wide character", y, x)
			}
		}
	}
}

// checkRedraw feeds in, some of it before the size changes, and holds that
// the redraw gives the same screen, and that the rest gives the same then.
func checkRedraw(t *testing.T, size Size, in []byte, cut int, rest []byte, then Size) {
	t.Helper()
	s := New(size)
	s.Write(in[:cut])
	valid(t, s)
	s.Resize(then)
	valid(t, s)
	s.Write(in[cut:])
	valid(t, s)
	again, err := Decode(s.Encode())
	if err != nil {
		t.Fatal(err)
	}
	sameScreen(t, s, again)
	s.last = 0 // BUG: what REP repeats is not in a redraw
	s.Write(rest)
	again.Write(rest)
	sameScreen(t, s, again)
}

// TestRedrawRecordings: the redraw of each recording, cut anywhere, gives the
// same screen, and the rest of the recording the same again.
func TestRedrawRecordings(t *testing.T) {
	for _, rec := range recordings(t) {
		t.Run(rec.Name, func(t *testing.T) {
			for cut := 0; cut <= len(rec.Bytes); cut += 1 + len(rec.Bytes)/50 {
				checkRedraw(t, Size{24, 80}, rec.Bytes[:cut], 0, rec.Bytes[cut:], Size{})
			}
			n := len(rec.Bytes)
			checkRedraw(t, Size{24, 80}, rec.Bytes, n/2, nil, Size{10, 33})
			checkRedraw(t, Size{5, 20}, rec.Bytes, n/2, nil, Size{40, 100})
		})
	}
}

func FuzzRedraw(f *testing.F) {
	for _, rec := range recordings(f) {
		if len(rec.Bytes) < 2048 {
			f.Add(rec.Bytes, rec.Bytes, uint8(24), uint8(80), uint8(10), uint8(40))
		}
	}
	f.Add([]byte("\x1b[2;3r\x1b[?6h\x1b7\x1b[4;5r\x1b8\x1b[?1049h\x1b[9;1Hx"), []byte("\x1b8\x1b[?1049l\x1b8y"), uint8(6), uint8(4), uint8(3), uint8(9))
	f.Add([]byte("xy\x1b[M"), []byte("z"), uint8(4), uint8(2), uint8(4), uint8(2))
	f.Add([]byte("xy\x1b[L"), []byte("z"), uint8(4), uint8(2), uint8(4), uint8(2))
	f.Fuzz(func(t *testing.T, in, rest []byte, rows, cols, rows2, cols2 uint8) {
		if len(in) > 4096 || len(rest) > 4096 {
			return
		}
		checkRedraw(t, Size{int(rows % 40), int(cols % 100)}, in, len(in)/2, rest, Size{int(rows2 % 40), int(cols2 % 100)})
	})
}

func FuzzDecode(f *testing.F) {
	s := New(Size{3, 5})
	s.Write([]byte("a\x1b[31mb"))
	f.Add(s.Encode())
	f.Fuzz(func(t *testing.T, in []byte) {
		if s, err := Decode(in); err == nil {
			valid(t, s)
		}
	})
}

// TestHostile: whatever a program prints, the work and the memory are bounded,
// and so is the redraw.
func TestHostile(t *testing.T) {
	long := strings.Repeat("9", 1<<16)
	for name, in := range map[string]string{
		"numbers":    "x\x1b[" + long + "b\x1b[" + long + ";" + long + "H\x1b[" + long + "@\x1b[" + long + "L\x1b[" + long + "I\x1b[" + long + "S",
		"title":      "\x1b]2;" + strings.Repeat("title", 1<<18),
		"no end":     "\x1bP" + strings.Repeat("q", 1<<20),
		"parameters": "\x1b[" + strings.Repeat("1;", 1<<16) + "m",
		"middles":    "\x1b" + strings.Repeat("#", 1<<16) + "8",
		"marks":      "e" + strings.Repeat("\u0301", 1<<16),
		"switches":   strings.Repeat("\x1b[?1049h\x1b[?1049l", 1000),
	} {
		s := New(Size{24, 80})
		s.Write([]byte(in))
		valid(t, s)
		if n := len(s.raw); n > textMax {
			t.Errorf("%s: %d bytes are kept of one sequence", name, n)
		}
		if n := len(s.Encode()); n > 64<<10 {
			t.Errorf("%s: %d bytes", name, n)
		}
	}
	s := New(Size{65535, 65535})
	if s.Size() != (Size{rowsMax, colsMax}) {
		t.Errorf("%v lines and columns are kept", s.Size())
	}
	var b bytes.Buffer
	for i := range rowsMax * colsMax {
		b.WriteString("\x1b[38;2;" + string('0'+byte(i%7)) + ";1;1;1mx")
	}
	s.Write(b.Bytes())
	p := s.Encode()
	if len(p) > encodedMax || len(p) < rowsMax*colsMax {
		t.Errorf("%d bytes", len(p))
	}
	again, err := Decode(p)
	if err != nil || again.grid[rowsMax-1].String() != strings.Repeat("x", colsMax) {
		t.Errorf("a large screen comes back as %q, %v", again.grid[rowsMax-1].String(), err)
	}
	s.Write([]byte("\x1b[H" + strings.Repeat("e\u0301\u0302\u0303", rowsMax*colsMax)))
	if n := len(s.Encode()); n > encodedMax {
		t.Errorf("%d bytes", n)
	}
}

// TestLeave: a terminal that shows the screen of a program is normal again
// after it, and one in which nothing was changed is left alone.
func TestLeave(t *testing.T) {
	for _, rec := range recordings(t) {
		s := New(Size{24, 80})
		s.Write(rec.Bytes)
		s.Write(s.Leave())
		if s.alt != nil || s.modes != modeWrap|modeVisible || s.mouse != 0 || s.shape != 0 || s.keys != 0 || s.state != ground ||
			s.top != 0 || s.bottom != 23 || s.cur.origin || s.cur.style != (style{}) || s.cur.sets != [2]bool{} || s.cur.set != 0 {
			t.Errorf("%s leaves %+v, modes %b, region %d to %d", rec.Name, s.cur, s.modes, s.top, s.bottom)
		}
	}
	s := New(Size{24, 80})
	s.Write([]byte("plain text\r\n"))
	if got := s.Leave(); len(got) > 0 {
		t.Errorf("%q for plain text", got)
	}
}

// TestClip: a smaller viewer sees the upper left corner.
func TestClip(t *testing.T) {
	s := New(Size{24, 80})
	s.Write([]byte(strings.Repeat("漢", 40) + "\r\nsecond\r\nthird"))
	v := New(Size{2, 7})
	v.Write(s.Redraw(Size{2, 7}))
	if a, b := v.grid[0].String(), v.grid[1].String(); a != "漢漢漢" || b != "second" {
		t.Errorf("%q, %q", a, b)
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, rec := range recordings(b) {
		if rec.Name != "vim" && rec.Name != "top" {
			continue
		}
		b.Run(rec.Name, func(b *testing.B) {
			s := New(Size{24, 80})
			b.SetBytes(int64(len(rec.Bytes)))
			for b.Loop() {
				s.Write(rec.Bytes)
			}
		})
	}
	b.Run("lines", func(b *testing.B) {
		s := New(Size{24, 80})
		p := bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog 0123456789\r\n"), 1000)
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			s.Write(p)
		}
	})
	b.Run("redraw", func(b *testing.B) {
		s := New(Size{24, 80})
		s.Write(bytes.Repeat([]byte("\x1b[32mx\x1b[1my"), 24*40))
		for b.Loop() {
			s.Redraw(Size{})
		}
	})
}
