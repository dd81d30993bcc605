package api

import (
	"errors"
	"slices"
)

// With returns p with what c names.
func (p Policy) With(c PolicyChange) Policy {
	put := func(to *string, from *string) {
		if from != nil {
			*to = *from
		}
	}
	if c.EverySeconds != nil {
		p.EverySeconds, p.EveryAuto = *c.EverySeconds, false
	}
	if c.EveryAuto != nil {
		p.EveryAuto = *c.EveryAuto
	}
	if c.Data != nil {
		p.Data = slices.Clone(*c.Data)
	}
	put(&p.Files, c.Files)
	put(&p.OnCrash, c.OnCrash)
	put(&p.OnExit, c.OnExit)
	put(&p.GiveUp, c.GiveUp)
	put(&p.Health, c.Health)
	if c.Files != nil && *c.Files == FilesRollback || c.OnCrash != nil && *c.OnCrash == OnRestore {
		p.Durable = false // until it says so again
	}
	if c.WatchdogSeconds != nil {
		p.WatchdogSeconds = *c.WatchdogSeconds
	}
	if c.RehearseSeconds != nil {
		p.RehearseSeconds = *c.RehearseSeconds
	}
	if c.PauseBudgetSeconds != nil {
		p.PauseBudgetSeconds = *c.PauseBudgetSeconds
	}
	for _, n := range []struct{ to, from *int64 }{
		{&p.LogMaxBytes, c.LogMaxBytes}, {&p.KeepSizeBytes, c.KeepSizeBytes}, {&p.WriteLimitBytes, c.WriteLimitBytes}, {&p.BufferBytes, c.BufferBytes},
	} {
		if n.from != nil {
			*n.to = *n.from
		}
	}
	return p
}

// everyMin bounds the interval between checkpoints.
const everyMin = 0.01

// Check refuses what nobody could follow, but for the health check. bufferMax is
// the largest buffer, in bytes.
func (p Policy) Check(bufferMax int64) error {
	oneOf := func(name, v string, words ...string) error {
		if slices.Contains(words, v) {
			return nil
		}
		return Errorf(CodeUsage, "", "%s is %q, not one of %v", name, v, words)
	}
	if p.EverySeconds < everyMin || p.EverySeconds > 366*86400 {
		return Errorf(CodeUsage, "", "the interval of %v s is not between 10ms and a year", p.EverySeconds)
	}
	if p.PauseBudgetSeconds < 0 || p.PauseBudgetSeconds > 3600 {
		return Errorf(CodeUsage, "", "a budget of %v s is not between 0 and an hour", p.PauseBudgetSeconds)
	}
	if p.RehearseSeconds != -1 && p.RehearseSeconds < 0 || p.RehearseSeconds > 366*86400 {
		return Errorf(CodeUsage, "", "an interval of %v s between rehearsals is not between 0 and a year", p.RehearseSeconds)
	}
	if p.WatchdogSeconds < 0 || p.WatchdogSeconds > 366*86400 {
		return Errorf(CodeUsage, "", "a silence of %v s is not between 0 and a year", p.WatchdogSeconds)
	}
	if p.LogMaxBytes < 0 {
		return Errorf(CodeUsage, "", "the output cannot be limited to %d bytes", p.LogMaxBytes)
	}
	if p.BufferBytes < 0 || p.BufferBytes > bufferMax {
		return Errorf(CodeUsage, "", "a buffer of %d bytes is not between 0 and %d", p.BufferBytes, bufferMax)
	}
	if p.KeepSizeBytes < -1 || p.WriteLimitBytes < -1 {
		return Errorf(CodeUsage, "", "a limit of %d bytes makes no sense", min(p.KeepSizeBytes, p.WriteLimitBytes))
	}
	return errors.Join(
		oneOf("files", p.Files, FilesRollback, FilesKeep),
		oneOf("on-crash", p.OnCrash, OnRestore, OnFresh),
		oneOf("on-exit", p.OnExit, OnFinish, OnRestore),
		oneOf("give-up", p.GiveUp, GiveUpStop, OnFresh),
	)
}

// Hears refuses to wait for the words of a program that has no socket to speak
// on: one that was adopted has the environment that it had.
func (p Policy) Hears(s Spec) error {
	if p.WatchdogSeconds > 0 && s.Adopt != 0 {
		return Errorf(CodeUsage, "--health asks it instead", "a program that was adopted cannot be told where to say that it is well (--watchdog)")
	}
	return nil
}
