package engine

import (
	"context"
	"errors"
	"os"
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

// TestGivenUp: a freeze that gives up, because a thread does not stop, has not
// broken off what the others wait in.
func TestGivenUp(t *testing.T) {
	needRoot(t)
	z := &cage{t: t, animal: animal{name: "given_up"}, program: build(t, "calls"), dir: t.TempDir()}
	z.start()
	z.rounds(1)
	for gaveUp := 0; gaveUp < 20; time.Sleep(100 * time.Millisecond) {
		f, err := z.tree.Freeze(context.Background())
		switch {
		case errors.Is(err, os.ErrProcessDone):
			t.Fatalf("%v\n%s", err, z.tail())
		case err != nil:
			gaveUp++
		default: // between two children
			if err := f.Thaw(); err != nil {
				t.Fatal(err)
			}
		}
	}
	z.rounds(2)
}
