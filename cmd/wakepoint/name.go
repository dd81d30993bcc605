package main

import "github.com/wakepoint/wakepoint/internal/store"

// workloadName is a flag that takes the name of a new workload.
type workloadName string

func (n *workloadName) String() string { return string(*n) }
func (n *workloadName) Type() string   { return "string" }

func (n *workloadName) Set(s string) error {
	if err := store.CheckName(s); err != nil {
		return err
	}
	*n = workloadName(s)
	return nil
}
