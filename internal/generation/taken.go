package generation

import (
	"fmt"
	"os"
	"strings"

	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/image"
)

// Taken names the process and thread numbers of a generation that others have
// on this host, as "812 (nginx)".
func Taken(r engine.Source) ([]string, error) {
	text, err := r.Blob(engine.TreeBlob)
	if err != nil {
		return nil, err
	}
	t, err := image.Decode(text)
	if err != nil {
		return nil, err
	}
	var taken []string
	for _, p := range t.Processes {
		numbers := []int{p.PID}
		for _, th := range p.Threads {
			if th.TID != p.PID {
				numbers = append(numbers, th.TID)
			}
		}
		for _, n := range numbers {
			if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", n)); err == nil {
				taken = append(taken, fmt.Sprintf("%d (%s)", n, strings.TrimSpace(string(name))))
			}
		}
	}
	return taken, nil
}
