package procfs

import (
	"strings"
	"testing"
)

const schedRule = "-------------------------------------------------------------------\n"

const schedText = "bash (5921, #threads: 1)\n" + schedRule +
	`se.exec_start                                :       1119292.597879
se.vruntime                                  :            78.437074
se.sum_exec_runtime                          :             3.392749
se.nr_migrations                             :                    2
nr_switches                                  :                   17
policy                                       :                    0
current_node=0, numa_group_id=0
`

func TestParseSched(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Sched
		bad        bool
	}{
		{"whole", schedText, Sched{ExecStart: 1119292_597879, SumRuntime: 3_392749, Switches: 17}, false},
		{"odd name", strings.Replace(schedText, "bash", "\nse.exec_start:", 1), Sched{ExecStart: 1119292_597879, SumRuntime: 3_392749, Switches: 17}, false},
		{"no keys", "x (1, #threads: 1)\n" + schedRule, Sched{-1, -1, -1}, false},
		{"empty", "", Sched{}, true},
		{"no rule", "x (1, #threads: 1)\nse.exec_start : 1.000000\n", Sched{}, true},
		{"five digits", "x\n" + schedRule + "se.exec_start : 1.00000\n", Sched{}, true},
		{"too large", "x\n" + schedRule + "se.exec_start : 9223372036855.000000\n", Sched{}, true},
	} {
		got, err := ParseSched([]byte(c.text))
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%s: got %+v, %v", c.name, got, err)
		}
	}
}
