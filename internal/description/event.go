package description

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// Eventfd makes an eventfd with its count.
func Eventfd(e *image.Event) (int, error) {
	flags := unix.EFD_CLOEXEC | unix.EFD_NONBLOCK
	if e.Semaphore {
		flags |= unix.EFD_SEMAPHORE
	}
	fd, err := unix.Eventfd(0, flags)
	if err == nil && e.Count > 0 {
		err = writeCount(fd, e.Count)
	}
	return fd, err
}

// IsSemaphore learns by reading whether an eventfd with this count is a
// semaphore, which a kernel before 6.5 does not say: a semaphore gives 1 of any
// count, another all of it (eventfd(2)). The count is the same afterwards, if
// nobody else uses the eventfd meanwhile. It never blocks.
func IsSemaphore(fd int, count uint64) (bool, error) {
	const most = 1<<64 - 2 // that a write may reach
	if count > most {
		return false, errors.New("its count has overflowed")
	}
	total := max(count, 2) // 1 would look the same
	if count < total {
		if err := writeCount(fd, total-count); err != nil {
			return false, err
		}
	}
	got, err := readCount(fd)
	left := total - got
	for ; err == nil && left > count; left -= got { // a semaphore that was raised to 2
		got, err = readCount(fd)
	}
	if err == nil && left < count {
		err = writeCount(fd, count-left)
	}
	return got == 1, err
}

func readCount(fd int) (uint64, error) {
	var b [8]byte
	_, err := unix.Read(fd, b[:])
	return binary.NativeEndian.Uint64(b[:]), err
}

func writeCount(fd int, n uint64) error {
	var b [8]byte
	for i := range b {
		b[i] = byte(n >> (8 * i))
	}
	_, err := unix.Write(fd, b[:])
	return err
}

// Timerfd makes a timerfd with the time that was left. Expirations that
// nobody has read come again at once. One that waits for a time of day waits
// for it again; of all others passed ns have gone by.
func Timerfd(t *image.Timerfd, at image.Clock, passed int64) (int, error) {
	fd, err := unix.TimerfdCreate(t.Clock, unix.TFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	set, ticks, flags := t.Setting, t.Ticks, 0
	realtime := t.Clock == unix.CLOCK_REALTIME || t.Clock == unix.CLOCK_REALTIME_ALARM
	if realtime && t.Settime&unix.TFD_TIMER_ABSTIME != 0 && set.Value != [2]int64{} {
		set, flags = set.After(-at.Realtime, 1e9), t.Settime
	} else {
		missed := set.Missed(passed)
		ticks += uint64(missed)
		set = set.After(passed-missed*(set.Every[0]*1e9+set.Every[1]), 1e9)
	}
	spec := unix.ItimerSpec{Value: unix.Timespec{Sec: set.Value[0], Nsec: set.Value[1]},
		Interval: unix.Timespec{Sec: set.Every[0], Nsec: set.Every[1]}}
	if ticks > 0 && spec.Value.Nano() == 0 {
		spec.Value.Nsec = 1
	}
	if err := unix.TimerfdSettime(fd, flags, &spec, nil); err != nil {
		return -1, err
	}
	if ticks > 0 && t.Setting.Value == [2]int64{} {
		return fd, nil
	}
	if ticks > 0 {
		_ = sys.SetTimerfdTicks(fd, ticks) // without CONFIG_CHECKPOINT_RESTORE they come late
	}
	return fd, nil
}
