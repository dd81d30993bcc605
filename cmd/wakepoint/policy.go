package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/internal/api"
)

// everyMin is the shortest interval between checkpoints that is taken.
const everyMin = 10 * time.Millisecond

// policyFlags are the flags that make or change a policy.
type policyFlags struct {
	every   time.Duration
	data    []string
	files   string
	onCrash string
	onExit  string
	giveUp  string
	logMax  int64
}

func (p *policyFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.Var((*interval)(&p.every), "every", "checkpoint at this `INTERVAL` (default 1s)")
	f.StringArrayVar(&p.data, "data", nil, "a `DIR` whose files belong to the generations; may be repeated")
	f.Var(&choice{&p.files, []string{api.FilesRollback, api.FilesKeep}}, "files", "`WHAT` a restore does to files that the program writes: rollback or keep")
	f.Var(&choice{&p.onCrash, []string{api.OnRestore, api.OnFresh}}, "on-crash", "`WHAT` to do after a crash: restore the last good state, or start the command fresh")
	f.Var(&choice{&p.onExit, []string{api.OnFinish, api.OnRestore}}, "on-exit", "`WHAT` a clean end means: finish, or restore as after a crash")
	f.Var((*size)(&p.logMax), "log-max", "put the output aside when it is larger than this `SIZE` (default 64MiB)")
	f.Var(&choice{&p.giveUp, []string{api.GiveUpStop, api.OnFresh}}, "give-up", "`WHAT` to do when no generation lives: stop, or start the command fresh")
}

// policy is what the flags say; what is not said stays empty.
func (p *policyFlags) policy() (api.Policy, error) {
	data, err := absolute(p.data)
	return api.Policy{
		EverySeconds: p.every.Seconds(), Data: data,
		Files: p.files, OnCrash: p.onCrash, OnExit: p.onExit, GiveUp: p.giveUp, LogMaxBytes: p.logMax,
	}, err
}

// change is what the flags that were given change.
func (p *policyFlags) change(cmd *cobra.Command) (c api.PolicyChange, changed bool, err error) {
	f := cmd.Flags()
	data, err := absolute(p.data)
	if err != nil {
		return c, false, err
	}
	if f.Changed("data") {
		c.Data, changed = &data, true
	}
	if f.Changed("every") {
		every := p.every.Seconds()
		c.EverySeconds, changed = &every, true
	}
	if f.Changed("log-max") {
		c.LogMaxBytes, changed = &p.logMax, true
	}
	for _, w := range []struct {
		flag  string
		value *string
		to    **string
	}{
		{"files", &p.files, &c.Files}, {"on-crash", &p.onCrash, &c.OnCrash},
		{"on-exit", &p.onExit, &c.OnExit}, {"give-up", &p.giveUp, &c.GiveUp},
	} {
		if f.Changed(w.flag) {
			*w.to, changed = w.value, true
		}
	}
	return c, changed, nil
}

// absolute makes paths mean the same in the keeper as here.
func absolute(paths []string) ([]string, error) {
	var list []string
	for _, p := range paths {
		full, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		list = append(list, full)
	}
	return list, nil
}

// interval is a duration flag that takes plain numbers as seconds.
type interval time.Duration

func (i *interval) String() string {
	if *i == 0 {
		return ""
	}
	return time.Duration(*i).String()
}

func (i *interval) Type() string { return "duration" }

func (i *interval) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil {
		if d, err = time.ParseDuration(s + "s"); err != nil {
			return fmt.Errorf("%q is not a duration such as 500ms, 1s or 2m", s)
		}
	}
	if d < everyMin {
		return fmt.Errorf("%s is shorter than %s", strconv.Quote(s), everyMin)
	}
	*i = interval(d)
	return nil
}

// size is a flag of bytes that takes the suffixes KiB, MiB, GiB (K, M, G).
type size int64

func (s *size) String() string {
	if *s == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*s), 10)
}

func (s *size) Type() string { return "size" }

func (s *size) Set(text string) error {
	number, shift := text, 0
	for suffix, n := range map[string]int{"K": 10, "M": 20, "G": 30} {
		for _, end := range []string{suffix, suffix + "iB"} {
			if head, ok := strings.CutSuffix(text, end); ok {
				number, shift = head, n
			}
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > (1<<62)>>shift {
		return fmt.Errorf("%q is not a size such as 500K, 64MiB or 1G", text)
	}
	*s = size(n << shift)
	return nil
}
