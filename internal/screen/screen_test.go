package screen

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// recorded is a stream of bytes and what tmux 3.3a makes of it on 24 lines of
// 80 columns: `capture-pane -p -e -N` and `display-message -p`.
type recorded struct {
	Name                         string
	Bytes                        []byte
	Lines                        []string
	X, Y                         int
	Alternate, Visible           bool
	Top, Bottom                  int
	Origin, Insert, Wrap, Keypad bool
	CursorKeys                   bool `json:"cursor_keys"`
	Title                        string
}

func recordings(t testing.TB) []recorded {
	t.Helper()
	b, err := os.ReadFile("testdata/tmux.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []recorded
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// elsewhere says where xterm does something else than tmux and is obeyed here.
var elsewhere = map[string]string{
	"half of a wide overwritten": "the other half is blank",
	"huge numbers":               "REP repeats only what comes just before it",
	"pending wrap then back":     "back from the last column, not from the one behind it",
}

// TestRecordings compares the screen of programs, and of one sequence each,
// with tmux's.
func TestRecordings(t *testing.T) {
	for _, rec := range recordings(t) {
		t.Run(rec.Name, func(t *testing.T) {
			if why := elsewhere[rec.Name]; why != "" {
				t.Log(why)
				return
			}
			s := New(Size{24, 80})
			s.Write(rec.Bytes)
			one := New(Size{1, 80})
			one.Write([]byte("\x1b)0"))
			for y, want := range rec.Lines { // the style goes on from line to line
				one.Write([]byte("\r\x1b7\x1b[m\x1b[2K\x1b8" + want))
				n := one.cur.x // tmux says nothing of erased cells behind it
				if one.cur.wrap {
					n++
				}
				if a, b := s.grid[y], one.grid[0]; !reflect.DeepEqual(a[:n], b[:n]) || strings.TrimSpace(a[n:].String()) != "" {
					t.Errorf("line %d: %s\n%s", y, a, cmp.Diff(a, b, cmp.AllowUnexported(cell{}, style{})))
				}
			}
			x := s.cur.x
			if s.cur.wrap {
				x++
			}
			got := recorded{rec.Name, rec.Bytes, rec.Lines, x, s.cur.y, s.alt != nil, s.modes&modeVisible != 0, s.top, s.bottom,
				s.cur.origin, s.modes&modeInsert != 0, s.modes&modeWrap != 0, s.modes&modeKeypad != 0, s.modes&modeCursorKeys != 0, s.title[0]}
			if got.Title == "" {
				got.Title = rec.Title // the name of tmux's host
			}
			if diff := cmp.Diff(rec, got); diff != "" {
				t.Errorf("tmux, here:\n%s", diff)
			}
		})
	}
}
