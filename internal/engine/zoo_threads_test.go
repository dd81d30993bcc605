package engine

import (
	"os"
	"strings"
	"testing"
)

// needsCPU skips an animal where the processor lacks something.
func needsCPU(flag string) func(*testing.T) {
	return func(t *testing.T) {
		b, err := os.ReadFile("/proc/cpuinfo")
		if err != nil || !strings.Contains(string(b), " "+flag+" ") {
			t.Skipf("the processor has no %s", flag)
		}
	}
}

// TestZooThreads: threads, their signals and registers.
func TestZooThreads(t *testing.T) {
	list := named(`hundred coming_and_going altstack robust inheritance condition barriers rseq pending handlers storm control_words`)
	list = append(list, animal{name: "avx", before: needsCPU("avx2")}, animal{name: "avx512", before: needsCPU("avx512f")})
	zoo(t, "threads", list)
}
