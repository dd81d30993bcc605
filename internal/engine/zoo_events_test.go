package engine

import "testing"

// TestZooEpoll: event queues with their registrations.
func TestZooEpoll(t *testing.T) {
	zoo(t, "epoll", named(`level edge oneshot exclusive nested duplicates orphaned inherited many`))
}

// TestZooTimers: timers of every kind come at their time.
func TestZooTimers(t *testing.T) {
	zoo(t, "timers", named(`itimer_real itimer_periodic alarms itimer_cpu posix thread_timer cpu_timers overruns timerfds unread
		absolute clocks`))
}
