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

func FuzzKeys(f *testing.F) {
	f.Add([]byte("a\x1cb\x1c\x1c\x1b[92;5ud"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var k detachKeys
		if out, _ := k.feed(in); len(out) > len(in) {
			t.Fatalf("%q grew to %q", in, out)
		}
	})
}
