package policy

import (
	"testing"
	"time"
)

func TestPulse(t *testing.T) {
	const well, not = true, false
	for name, c := range map[string]struct {
		answers []bool
		ill     int // the answer with which it is; 0: never
	}{
		"well":                      {[]bool{well, well, well}, 0},
		"slow to start":             {[]bool{not, not, not, not, not, well, not, not, well}, 0},
		"never well":                {[]bool{not, not, not, not, not, not, not, not}, 7},
		"not in a row":              {[]bool{well, not, not, well, not, not, well, not, not}, 0},
		"three in a row":            {[]bool{well, not, not, not}, 4},
		"three after a slow start":  {[]bool{not, not, not, not, well, not, not, not}, 8},
		"too few, though long over": {[]bool{well, well, well, well, well, well, well, not, not}, 0},
	} {
		p, ill := Pulse{Since: at(0), Fresh: true}, 0
		for i, a := range c.answers {
			var now bool
			if p, now = p.Answer(at(0).Add(time.Duration(i)*10*time.Second), a); now && ill == 0 {
				ill = i + 1
			}
		}
		if ill != c.ill {
			t.Errorf("%s: ill with answer %d, want %d", name, ill, c.ill)
		}
	}
	p := Pulse{Since: at(0)}
	for i := range 3 { // restored: it has less time
		var ill bool
		if p, ill = p.Answer(at(float64(6*i)), false); ill != (i == 2) {
			t.Errorf("restored: answer %d: %v", i+1, ill)
		}
	}
}
