package api

import (
	"fmt"
	"strings"
)

// Verified is what became of the reading of one workload.
type Verified struct {
	Name        string // "" for the store's own file
	Generations int    // how many there are
	Whole       int    // of those, how many restore
	Damage      []Damage
}

// Damage is a damaged file and what follows from it.
type Damage struct {
	File        string // its path
	Offset      int64
	What        string
	Generations []string // those that do not restore, newest first
	Kept        bool     // or do, where the host has the executables and libraries that they had
	Follows     string
}

// String names the file and says what follows.
func (d Damage) String() string {
	return fmt.Sprintf("%s: %s", d.Where(), d.Consequence())
}

// Where says which file is damaged, and how.
func (d Damage) Where() string {
	if d.Offset == 0 {
		return d.File + ": " + d.What
	}
	return fmt.Sprintf("%s at %d: %s", d.File, d.Offset, d.What)
}

// Consequence says what follows from the damage.
func (d Damage) Consequence() string {
	which := strings.Join(d.Generations, ", ")
	switch n := len(d.Generations); {
	case n == 0:
		return d.Follows
	case d.Kept && n == 1:
		return which + " restores only where the host has all executables and libraries that it had"
	case d.Kept:
		return which + " restore only where the host has all executables and libraries that they had"
	case n == 1:
		return which + " does not restore"
	default:
		return which + " do not restore"
	}
}
