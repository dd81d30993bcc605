package procfs

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseNumber(t *testing.T) {
	for _, c := range []struct {
		text string
		want int64
		bad  bool
	}{
		{"4294967295", 4294967295, false}, {"-1000\n", -1000, false}, {"0\n", 0, false},
		{"-9223372036854775808", math.MinInt64, false}, {"9223372036854775807\n", math.MaxInt64, false},
		{"9223372036854775808", 0, true}, {"-9223372036854775809", 0, true}, {"", 0, true}, {"\n", 0, true},
		{"-", 0, true}, {"1 2\n", 0, true}, {"1\n2\n", 0, true}, {"+1\n", 0, true}, {"a\n", 0, true},
	} {
		if got, err := ParseNumber([]byte(c.text)); got != c.want || (err != nil) != c.bad {
			t.Errorf("%q: got %d, %v", c.text, got, err)
		}
	}
}

func TestParseStrings(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", nil}, {"\x00", []string{""}}, {"a", []string{"a"}}, {"a\x00", []string{"a"}}, {"a\x00\x00", []string{"a", ""}},
		{"sh\x00-c\x00a\nb\x00", []string{"sh", "-c", "a\nb"}}, {"a\x00\x00b", []string{"a", "", "b"}},
	} {
		got, err := ParseStrings([]byte(c.text))
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", c.text, err, diff)
		}
	}
}

func TestReaderSingles(t *testing.T) {
	r := NewReader(tree(t, map[string]string{
		"7/loginuid": "4294967295", "7/oom_score_adj": "-17\n", "7/coredump_filter": "00000033\n", "8/coredump_filter": "",
		"7/task/9/personality": "00040000\n", "9/timerslack_ns": "50000\n", "7/cmdline": "sh\x00-c\x00", "7/environ": "A=1\x00",
		"8/loginuid": "4294967296", "8/oom_score_adj": "x\n", "8/task/9/personality": "g\n", "8/timerslack_ns": "-1\n",
	}))
	login, err1 := r.LoginUID(7)
	oom, err2 := r.OOMScoreAdj(7)
	core, err3 := r.CoredumpFilter(7)
	none, err4 := r.CoredumpFilter(8)
	pers, err5 := r.Personality(7, 9)
	slack, err6 := r.TimerSlack(9)
	cmdline, err7 := r.Cmdline(7)
	environ, err8 := r.Environ(7)
	for i, err := range []error{err1, err2, err3, err4, err5, err6, err7, err8} {
		if err != nil {
			t.Errorf("%d: %v", i+1, err)
		}
	}
	if login != NoLoginUID || oom != -17 || core != 0x33 || none != 0 || pers != 0x40000 || slack != 50000 ||
		len(cmdline) != 2 || len(environ) != 1 {
		t.Error(login, oom, core, none, pers, slack, cmdline, environ)
	}
	_, err1 = r.LoginUID(8)
	_, err2 = r.OOMScoreAdj(8)
	_, err3 = r.Personality(8, 9)
	_, err4 = r.TimerSlack(8)
	for i, err := range []error{err1, err2, err3, err4} {
		if err == nil || IsGone(err) {
			t.Errorf("%d: %v", i+1, err)
		}
	}
}
