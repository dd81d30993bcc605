package procfs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const limitsText = `Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max file size             unlimited            unlimited            bytes     
Max data size             unlimited            unlimited            bytes     
Max stack size            8388608              unlimited            bytes     
Max core file size        0                    unlimited            bytes     
Max resident set          unlimited            unlimited            bytes     
Max processes             96365                96366                processes 
Max open files            20000                1048576              files     
Max locked memory         8388608              8388608              bytes     
Max address space         18446744073709551614 unlimited            bytes     
Max file locks            unlimited            unlimited            locks     
Max pending signals       96365                96365                signals   
Max msgqueue size         819200               819200               bytes     
Max nice priority         1                    2                    
Max realtime priority     0                    99                   
Max realtime timeout      unlimited            unlimited            us        
`

func TestParseLimits(t *testing.T) {
	const inf = Unlimited
	want := Limits{
		{inf, inf}, {inf, inf}, {inf, inf}, {8388608, inf}, {0, inf}, {inf, inf}, {96365, 96366}, {20000, 1048576},
		{8388608, 8388608}, {inf - 1, inf}, {inf, inf}, {96365, 96365}, {819200, 819200}, {1, 2}, {0, 99}, {inf, inf},
	}
	got, err := ParseLimits([]byte(limitsText))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, change := range [][2]string{
		{"Max nice priority", "Max nicer priority"}, {"96366", "x"}, {"99   ", "     "}, {"Max realtime timeout", ""},
		{"Max cpu time ", "Max cpu time"}, {"Max cpu time              ", "Max cpu timer             "},
	} {
		bad := strings.Replace(limitsText, change[0], change[1], 1)
		if _, err := ParseLimits([]byte(bad)); (err == nil) != (change[0] == "Max cpu time ") {
			t.Errorf("%q: %v", change, err)
		}
	}
}
