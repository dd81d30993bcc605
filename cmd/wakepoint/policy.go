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

// autoWord is the interval that is chosen.
const autoWord = "auto"

// everyMin is the shortest interval between checkpoints that is taken.
const everyMin = 10 * time.Millisecond

// policyFlags are the flags that make or change a policy.
type policyFlags struct {
	every   time.Duration
	auto    bool
	data    []string
	files   string
	onCrash string
	onExit  string
	giveUp  string
	health  string
	silence time.Duration
	logMax  int64
	keep    int64
	writes  int64
	buffer  int64
	budget  time.Duration
	again   rehearsals
}

func (p *policyFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.Var(&pace{&p.every, &p.auto}, "every", "checkpoint at this `INTERVAL`, or auto: as often as is worth it, by what a checkpoint costs and how often the program crashes (default 1s)")
	f.StringArrayVar(&p.data, "data", nil, "a `DIR` whose files belong to the generations; may be repeated")
	f.Var(&choice{&p.files, []string{api.FilesRollback, api.FilesKeep}}, "files", "`WHAT` a restore does to files that the program writes: rollback or keep")
	f.Var(&choice{&p.onCrash, []string{api.OnRestore, api.OnFresh}}, "on-crash", "`WHAT` to do after a crash: restore the last good state, or start the command fresh")
	f.Var(&choice{&p.onExit, []string{api.OnFinish, api.OnRestore}}, "on-exit", "`WHAT` a clean end means: finish, or restore as after a crash")
	f.Var((*size)(&p.logMax), "log-max", "put the output aside when it is larger than this `SIZE` (default 64MiB)")
	f.Var((*limit)(&p.keep), "keep-size", "keep generations of at most this `SIZE`, or none for no limit (default 20GiB, or a quarter of what is free)")
	f.Var((*limit)(&p.writes), "write-limit", "write at most this `SIZE` a second, averaged over an hour, or none for no limit (default 20MB)")
	f.Var((*size)(&p.buffer), "buffer", "copy up to this `SIZE` while the program stands still, and stream what is more (default 256MiB)")
	f.Var((*interval)(&p.budget), "pause-budget", "stretch the interval when the program stands still for its files for longer than this `DURATION` (default 100ms)")
	f.Var(&p.again, "rehearse", "restore the newest generation in a sandbox at this `INTERVAL`, when the host can afford it, or never (default 1h)")
	f.StringVar(&p.health, "health", "", "ask by this `CHECK` whether the program is well: exec:COMMAND, tcp:HOST:PORT or a URL; three answers in a row that it is not are a crash")
	f.Var((*silence)(&p.silence), "watchdog", "a program that is silent on its $NOTIFY_SOCKET for this `DURATION` has crashed; none: as it says itself")
	f.Var(&choice{&p.giveUp, []string{api.GiveUpStop, api.OnFresh}}, "give-up", "`WHAT` to do when no generation lives: stop, or start the command fresh")
}

// policy is what the flags say; what is not said stays empty.
func (p *policyFlags) policy() (api.Policy, error) {
	data, err := absolute(p.data)
	return api.Policy{
		EverySeconds: p.every.Seconds(), EveryAuto: p.auto, Data: data,
		Files: p.files, OnCrash: p.onCrash, OnExit: p.onExit, GiveUp: p.giveUp, Health: p.health, LogMaxBytes: p.logMax,
		KeepSizeBytes: p.keep, WriteLimitBytes: p.writes, BufferBytes: p.buffer, PauseBudgetSeconds: p.budget.Seconds(), RehearseSeconds: p.again.seconds(), WatchdogSeconds: p.silence.Seconds(),
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
	switch every := p.every.Seconds(); {
	case !f.Changed("every"):
	case p.auto:
		c.EveryAuto, changed = &p.auto, true
	default:
		c.EverySeconds, changed = &every, true
	}
	if f.Changed("rehearse") {
		every := p.again.seconds()
		c.RehearseSeconds, changed = &every, true
	}
	if f.Changed("pause-budget") {
		budget := p.budget.Seconds()
		c.PauseBudgetSeconds, changed = &budget, true
	}
	if f.Changed("watchdog") {
		limit := p.silence.Seconds()
		c.WatchdogSeconds, changed = &limit, true
	}
	for _, n := range []struct {
		flag  string
		value *int64
		to    **int64
	}{{"log-max", &p.logMax, &c.LogMaxBytes}, {"keep-size", &p.keep, &c.KeepSizeBytes}, {"write-limit", &p.writes, &c.WriteLimitBytes}, {"buffer", &p.buffer, &c.BufferBytes}} {
		if f.Changed(n.flag) {
			*n.to, changed = n.value, true
		}
	}
	for _, w := range []struct {
		flag  string
		value *string
		to    **string
	}{
		{"files", &p.files, &c.Files}, {"on-crash", &p.onCrash, &c.OnCrash},
		{"on-exit", &p.onExit, &c.OnExit}, {"give-up", &p.giveUp, &c.GiveUp}, {"health", &p.health, &c.Health},
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

// pace is an interval, or auto.
type pace struct {
	every *time.Duration
	auto  *bool
}

func (p *pace) String() string {
	if p.auto != nil && *p.auto {
		return autoWord
	}
	if p.every == nil {
		return ""
	}
	return (*interval)(p.every).String()
}

func (p *pace) Type() string { return "duration" }

func (p *pace) Set(s string) error {
	if *p.auto = s == autoWord; *p.auto {
		return nil
	}
	if err := (*interval)(p.every).Set(s); err != nil {
		return fmt.Errorf("%w (or auto)", err)
	}
	return nil
}

// rehearsals is an interval, or never.
type rehearsals struct {
	every interval
	never bool
}

func (r *rehearsals) String() string {
	if r.never {
		return "never"
	}
	return r.every.String()
}

func (r *rehearsals) Type() string { return "duration" }

func (r *rehearsals) Set(s string) error {
	if r.never = s == "never"; r.never {
		return nil
	}
	return r.every.Set(s)
}

// seconds is the interval as a policy has it.
func (r *rehearsals) seconds() float64 {
	if r.never {
		return -1
	}
	return time.Duration(r.every).Seconds()
}

// silence is a duration, or none: 0.
type silence time.Duration

func (d *silence) String() string { return (*interval)(d).String() }
func (d *silence) Type() string   { return "duration" }

func (d *silence) Set(s string) error {
	if *d = 0; s == "none" {
		return nil
	}
	return (*interval)(d).Set(s)
}

// limit is a size, or none: -1.
type limit int64

func (l *limit) String() string {
	if *l == 0 {
		return ""
	}
	return limitText(int64(*l))
}

func (l *limit) Type() string { return "size" }

func (l *limit) Set(text string) error {
	if text == "none" {
		*l = -1
		return nil
	}
	return (*size)(l).Set(text)
}

// limitText is a limit as its flag takes it.
func limitText(n int64) string {
	if n < 0 {
		return "none"
	}
	for _, u := range sizeUnits {
		if len(u.name) > 1 && n > 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// sizeUnits are the suffixes of a size, those that limitText prefers first.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3},
	{"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10},
}

// size is a flag of bytes that takes the suffixes KiB, MiB, GiB (K, M, G) and
// kB, MB, GB.
type size int64

func (s *size) String() string {
	if *s == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*s), 10)
}

func (s *size) Type() string { return "size" }

func (s *size) Set(text string) error {
	number, unit := text, int64(1)
	for _, u := range sizeUnits {
		if head, ok := strings.CutSuffix(text, u.name); ok {
			number, unit = head, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q is not a size such as 500K, 64MiB or 1G", text)
	}
	*s = size(n * unit)
	return nil
}
