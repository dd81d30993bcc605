package engine

import (
	"strings"
	"testing"
	"time"
)

// TestZooCalls: a call that sleeps ends at its time and never with EINTR,
// across ten checkpoints and across restores.
func TestZooCalls(t *testing.T) {
	names := strings.Fields(`nanosleep clock_rel clock_real_rel clock_abs poll poll_fd ppoll select pselect
		epoll_wait epoll_pwait epoll_pwait2 futex_rel futex_abs sem_timed sem_clock cond_timed mutex_timed
		sigtimedwait read_pipe write_pipe read_eventfd read_timerfd accept accept_unix recv_udp recvmsg_udp recv_unix recv_dgram
		read_timeo read_socket wait4 waitid pause sigsuspend sigwait read_restart lock_wait`)
	var list []animal
	for _, n := range names {
		list = append(list, animal{name: n, checkpoints: 10, gap: 60 * time.Millisecond})
	}
	zoo(t, "calls", list)
}

// TestZooPatience: time-outs of two seconds end, though a checkpoint is taken
// every fifth of a second, for longer than any of them may take; and where none
// is taken for as long after a restore.
func TestZooPatience(t *testing.T) {
	zoo(t, "calls", []animal{
		{name: "patience", checkpoints: 35, gap: 200 * time.Millisecond},
		{name: "patience", first: 7 * time.Second, gap: 900 * time.Millisecond},
	})
}
