package terminal

import "testing"

func TestDetachKeys(t *testing.T) {
	for _, c := range []struct {
		typed  []string
		sent   string
		detach bool
	}{
		{[]string{"ls\n"}, "ls\n", false},
		{[]string{"ls\x1cd more"}, "ls", true},
		{[]string{"\x1c", "d"}, "", true},
		{[]string{"\x1c"}, "", false},
		{[]string{"\x1c", "x"}, "\x1cx", false},
		{[]string{"\x1c\x1cd"}, "\x1cd", false},
		{[]string{"\x1c\x1c\x1cd"}, "\x1c", true},
		{[]string{"a\x1b[27;5;92~", "d"}, "a", true},
		{[]string{"\x1b[92;5ud"}, "", true},
		{[]string{"\x1b[27;5;92~x"}, "\x1b[27;5;92~x", false},
		{[]string{"\x1b[A"}, "\x1b[A", false},
	} {
		var k detachKeys
		var sent string
		var detach bool
		for _, p := range c.typed {
			var out []byte
			out, detach = k.feed([]byte(p))
			sent += string(out)
		}
		if sent != c.sent || detach != c.detach {
			t.Errorf("%q: sent %q, detach %v; want %q, %v", c.typed, sent, detach, c.sent, c.detach)
		}
	}
}

func TestModesUndo(t *testing.T) {
	for _, c := range []struct{ printed, undo string }{
		{"plain\r\n", ""},
		{"\x1b[1;31mred", "\x1b[m"},
		{"\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"},
		{"\x1b[?1049h\x1b[?25l\x1b[?25h\x1b[?1049l", ""},
		{"\x1b[?1000;1006h", "\x1b[?1000l\x1b[?1006l"},
		{"\x1b[?7l", "\x1b[?7h"},
		{"\x1b[?2026h\x1b[?9999999999999999999999h", ""},
		{"\x1b]0;[?1049h\x07", ""},
	} {
		var whole, bytewise modes
		whole.feed([]byte(c.printed))
		for i := range len(c.printed) {
			bytewise.feed([]byte(c.printed[i : i+1]))
		}
		if got := string(whole.undo()); got != c.undo {
			t.Errorf("%q: undo %q, want %q", c.printed, got, c.undo)
		}
		if got := string(bytewise.undo()); got != c.undo {
			t.Errorf("%q byte by byte: undo %q, want %q", c.printed, got, c.undo)
		}
	}
}

func FuzzFeeds(f *testing.F) {
	f.Add([]byte("\x1b[?1049;25h\x1c\x1b[92;5ud"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var m modes
		m.feed(in)
		var after modes
		after.feed(in)
		after.feed([]byte("\x18")) // no half sequence is left
		after.feed(after.undo())
		after.style = false
		if left := after.undo(); len(left) > 0 {
			t.Fatalf("%q: undo leaves %q", in, left)
		}
		var k detachKeys
		if out, _ := k.feed(in); len(out) > len(in) {
			t.Fatalf("%q grew to %q", in, out)
		}
	})
}
