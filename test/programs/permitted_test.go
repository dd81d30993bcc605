//go:build linux

package programs

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// permit is one difference that may show after a restore, and why.
type permit struct {
	what   string // a pattern of path.Match for the part after WHO
	same   func(before, after string) bool
	reason string
}

// permits is the table of permitted differences. What differs and is not here
// is red.
var permits = []permit{
	// Counters of the past.
	{"status/voluntary_ctxt_switches", nil, "counts switches since the process was made"},
	{"status/nonvoluntary_ctxt_switches", nil, "counts switches since the process was made"},
	{"status/VmHWM", nil, "the high-water mark begins anew"},
	{"status/VmPeak", nil, "the high-water mark begins anew"},

	// What is in memory now is the kernel's affair; what is mapped is compared in map/*.
	{"status/VmRSS", nil, "pages come and go"},
	{"status/RssAnon", nil, "pages come and go"},
	{"status/RssFile", nil, "pages come and go"},
	{"status/RssShmem", nil, "pages come and go"},
	{"status/VmSwap", nil, "pages come and go"},
	{"status/VmPTE", nil, "page tables are the kernel's"},
	{"status/HugetlbPages", nil, "pages come and go"},
	{"status/VmLib", nil, "computed from exec mappings and the executable's bounds; the mappings are compared"},

	// The moment of looking.
	{"status/State", sameState, "running or sleeping is chance; stopped and dead are compared"},
	{"status/TracerPid", nil, "a keeper may be at work"},
	{"status/SigQ", sameLimit, "the count is of the user, on the whole host; the limit is compared"},
	{"status/Mems_allowed*", nil, "where memory may come from is the host's"},

	// Identities that the kernel gives out; who shares what is compared by class.
	{"fdinfo/*/mnt_id", nil, "mounts are numbered anew"},
	{"fdinfo/*/ino", nil, "inodes without a name are numbered anew; identity is compared in fd/*"},
	{"fdinfo/*/eventfd-id", nil, "a number of the kernel's for eventfds"},
	{"fdinfo/*/scm_fds", nil, "shown for listening sockets on newer kernels only while looking"},

	// Time goes on.
	{"fdinfo/*/it_value", nil, "time until a timer fires"},
	{"fdinfo/*/ticks", nil, "a timer may have fired while nobody read"},

	// What the keeper leaves in a process.
	{"pad", nil, "room for the keeper's calls: it comes with the first checkpoint of a run"},
	{"status/VmSize", nil, "the sum of the mappings, with that room; each mapping is compared"},
	{"map/*/flag/sd", nil, "soft-dirty: every page is new"},
	{"map/*/flag/uw", nil, "registered with userfaultfd by the keeper"},
	{"map/*/flag/um", nil, "registered with userfaultfd by the keeper"},
	{"status/VmExe", nil, "computed from the executable's bounds; the mappings are compared"},
}

// sameState tells stopped and dead from all that is alive.
func sameState(before, after string) bool {
	kind := func(s string) string {
		if strings.HasPrefix(s, "Z") || strings.HasPrefix(s, "X") || strings.HasPrefix(s, "T (stopped") {
			return s
		}
		return "alive"
	}
	return kind(before) == kind(after)
}

// sameLimit compares what stands after the slash in "3/95678".
func sameLimit(before, after string) bool {
	_, b, _ := strings.Cut(before, "/")
	_, a, _ := strings.Cut(after, "/")
	return a == b
}

// permitted says whether a difference is in the table.
func permitted(what, before, after string) bool {
	for _, p := range permits {
		if ok, err := path.Match(p.what, what); err == nil && ok && (p.same == nil || p.same(before, after)) {
			return true
		}
	}
	return false
}

// differences lists the facts that are not the same and may not differ.
func differences(before, after facts) []string {
	keys := map[string]bool{}
	for key := range before {
		keys[key] = true
	}
	for key := range after {
		keys[key] = true
	}
	var list []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		b, hadIt := before[key]
		a, hasIt := after[key]
		_, what, _ := strings.Cut(key, " ")
		switch {
		case hadIt && hasIt && a == b || permitted(what, b, a):
		case !hadIt:
			list = append(list, fmt.Sprintf("%s: was not there, is %q", key, a))
		case !hasIt:
			list = append(list, fmt.Sprintf("%s: was %q, is gone", key, b))
		default:
			list = append(list, fmt.Sprintf("%s: was %q, is %q", key, b, a))
		}
	}
	return list
}

// listed is a list of differences for a person, not endless.
func listed(diff []string) string {
	const most = 150
	more := ""
	if len(diff) > most {
		more = fmt.Sprintf("\n... and %d more", len(diff)-most)
		diff = diff[:most]
	}
	return strings.Join(diff, "\n") + more
}

// TestPermits holds that patterns are well formed and give their reason, and
// that the comparison sees a difference, an absence and an addition.
func TestPermits(t *testing.T) {
	for _, p := range permits {
		if _, err := path.Match(p.what, "x"); err != nil || p.reason == "" {
			t.Errorf("%q: %v, reason %q", p.what, err, p.reason)
		}
	}
	before := facts{"2 umask": "0022", "2 gone": "1", "2:2 status/VmHWM": "1 kB", "2:2 status/State": "S (sleeping)"}
	after := facts{"2 umask": "0027", "2 new": "1", "2:2 status/VmHWM": "2 kB", "2:2 status/State": "R (running)"}
	if got := differences(before, after); len(got) != 3 {
		t.Errorf("3 differences expected:\n%s", listed(got))
	}
	if got := differences(facts{"2:2 status/State": "Z (zombie)"}, facts{"2:2 status/State": "S (sleeping)"}); len(got) != 1 {
		t.Errorf("a zombie that lives is no difference: %v", got)
	}
}
