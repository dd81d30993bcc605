package api

import "testing"

func TestPassedWords(t *testing.T) {
	list := []PassedOver{{Generation: "g8", Why: "a"}, {Generation: "g7", Why: "b"}, {Generation: "g6", Why: "c"}, {Generation: "g5", Why: "d"}}
	if got := passedWords(list); got != "; passed over g8 (a), g7 (b), g6 (c), 1 more" {
		t.Error(got)
	}
	if got := passedWords(nil); got != "" {
		t.Error(got)
	}
}
