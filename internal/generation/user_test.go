package generation

import (
	"strings"
	"testing"

	"github.com/wakepoint/wakepoint/internal/image"
)

// TestOwn: an ordinary user gets what runs wholly as himself.
func TestOwn(t *testing.T) {
	me := User{UID: 7, GID: 8, Groups: []int{8, 9}}
	mine := image.Creds{UID: [4]uint32{7, 7, 7, 7}, GID: [4]uint32{8, 8, 8, 8}, Groups: []uint32{9}, Bounding: 1<<40 - 1}
	tree := func(change func(c *image.Creds)) *image.Tree {
		c := mine
		change(&c)
		return &image.Tree{Processes: []image.Process{
			{PID: 1, Name: "sh", Threads: []image.Thread{{Creds: mine}}},
			{PID: 2, Name: "worker", Threads: []image.Thread{{Creds: mine}, {Creds: c}}},
			{PID: 3, Zombie: true},
		}}
	}
	for what, change := range map[string]func(c *image.Creds){
		"":                             func(*image.Creds) {},
		"user 0, and you are 7":        func(c *image.Creds) { c.UID[2] = 0 },
		"group 0, and yours is 8":      func(c *image.Creds) { c.GID[1] = 0 },
		"in group 10, and you are not": func(c *image.Creds) { c.Groups = []uint32{9, 10} },
		"has capabilities":             func(c *image.Creds) { c.Permitted = 1 },
	} {
		err := me.Own(tree(change))
		if (err == nil) != (what == "") || err != nil && (!strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "process 2 (worker)")) {
			t.Errorf("%s: %v", what, err)
		}
		if err := (User{Root: true}).Own(tree(change)); err != nil {
			t.Errorf("root: %s: %v", what, err)
		}
	}
}
