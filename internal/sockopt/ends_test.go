package sockopt

import (
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
)

func TestEnds(t *testing.T) {
	name := func(family uint16, rest string) []byte {
		return append(binary.NativeEndian.AppendUint16(nil, family), rest...)
	}
	v4 := name(unix.AF_INET, "\x00\x50\x0a\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00")
	v6 := name(unix.AF_INET6, "\x1f\x90"+strings.Repeat("\x00", 4+15)+"\x01"+strings.Repeat("\x00", 4))
	for want, s := range map[string]*image.Socket{
		"10.0.0.1:80 to [::1]:8080":                       {Local: v4, Peer: v6},
		`a UNIX socket without a name to "/run/x"`:        {Local: name(unix.AF_UNIX, ""), Peer: name(unix.AF_UNIX, "/run/x\x00")},
		`a UNIX socket without a name to "@\x1babstract"`: {Local: name(unix.AF_UNIX, ""), Peer: name(unix.AF_UNIX, "\x00\x1babstract")},
		"? to ?":           {Peer: name(77, "what is this")},
		"10.0.0.1:80 to ?": {Local: v4, Peer: name(unix.AF_INET, "\x00")},
	} {
		if got := Ends(s); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
