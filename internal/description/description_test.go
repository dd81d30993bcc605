package description_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/description"
	"github.com/wakepoint/wakepoint/internal/image"
)

func TestPipe(t *testing.T) {
	for _, c := range []struct {
		name string
		pipe image.Pipe
	}{
		{"empty", image.Pipe{Size: 4096}},
		{"a stream", image.Pipe{Size: 65536, Data: []byte("seven bytes and more")}},
		{"packets", image.Pipe{Size: 65536, Data: []byte("onetwo"), Packets: []int{3, 3}}},
		{"full", image.Pipe{Size: 8192, Data: make([]byte, 8192)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			flags := 0
			if len(c.pipe.Packets) > 0 {
				flags = unix.O_DIRECT
			}
			pipes := description.Pipes{}
			defer pipes.Close()
			r, err := pipes.End(&image.Description{Flags: unix.O_RDONLY | flags, Pipe: &c.pipe})
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(r)
			for range 2 { // looking takes nothing out
				got := image.Pipe{Size: c.pipe.Size}
				if len(c.pipe.Data) > 0 {
					link := fmt.Sprintf("/proc/self/fd/%d", r)
					if err := description.PeekPipe(link, len(c.pipe.Data), &got, flags != 0); err != nil {
						t.Fatal(err)
					}
				}
				want := c.pipe
				if c.name == "full" {
					want.Packets, got.Packets = nil, nil // a stream is read by the buffer
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Error(d)
				}
			}
		})
	}
}

func TestFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	d := image.Description{Flags: unix.O_RDONLY, Pipe: &image.Pipe{Size: 4096, Data: []byte("waits"), Mode: 0o640}}
	pipes := description.Pipes{}
	fd, err := pipes.FIFO(&d, path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	pipes.Close()
	buf := make([]byte, 16)
	n, err := unix.Read(fd, buf)
	if err != nil || string(buf[:n]) != "waits" {
		t.Errorf("read %q: %v", buf[:max(n, 0)], err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != os.ModeNamedPipe|0o640 {
		t.Errorf("mode %v: %v", st.Mode(), err)
	}
}

// TestInotify asks for numbers with gaps, which only those who count them out get.
func TestInotify(t *testing.T) {
	dir := t.TempDir()
	var want []image.Inotify
	for i, wd := range []int{7, 3} {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		want = append(want, image.Inotify{WD: wd, Mask: unix.IN_CREATE, Path: fmt.Sprint("/", i)})
	}
	inside := func(path string) string { return filepath.Join(dir, path) }
	for _, overflow := range []bool{false, true} {
		fd, err := description.Inotify(&image.Description{Inotify: want, Overflow: overflow}, inside)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := os.WriteFile(filepath.Join(dir, "0", fmt.Sprint(overflow)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if overflow {
			next(t, fd, -1, unix.IN_Q_OVERFLOW)
		}
		next(t, fd, 7, unix.IN_CREATE)
	}
}

// next reads one event, which is at the beginning of what is read.
func next(t *testing.T, fd, wd int, mask uint32) {
	t.Helper()
	buf := make([]byte, unix.SizeofInotifyEvent+32)
	if wd < 0 {
		buf = buf[:unix.SizeofInotifyEvent]
	}
	n, err := unix.Read(fd, buf)
	if err != nil || n < unix.SizeofInotifyEvent {
		t.Fatalf("an event of %d bytes: %v", n, err)
	}
	e := image.Inotify{WD: int(int32(le(buf))), Mask: le(buf[4:])}
	if d := cmp.Diff(image.Inotify{WD: wd, Mask: mask}, e); d != "" {
		t.Error(d)
	}
}

func le(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

func TestEvents(t *testing.T) {
	fd, err := description.Eventfd(&image.Event{Count: 5, Semaphore: true})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 8)
	for range 5 {
		if n, err := unix.Read(fd, buf); n != 8 || err != nil || buf[0] != 1 {
			t.Fatalf("read %v: %v", buf, err)
		}
	}
	if _, err := unix.Read(fd, buf); err != unix.EAGAIN {
		t.Errorf("after five: %v, not EAGAIN", err)
	}
	_, spec := timer(t, &image.Timerfd{Clock: unix.CLOCK_MONOTONIC, Setting: image.Interval{Value: [2]int64{2000, 0}, Every: [2]int64{7, 5}}},
		image.Clock{}, 1000e9)
	if spec.Interval != (unix.Timespec{Sec: 7, Nsec: 5}) || spec.Value.Sec < 900 || spec.Value.Sec > 1000 {
		t.Errorf("the timer is %+v", spec)
	}
}

// timer makes one, and returns what it is set to.
func timer(t *testing.T, d *image.Timerfd, at image.Clock, passed int64) (fd int, spec unix.ItimerSpec) {
	t.Helper()
	fd, err := description.Timerfd(d, at, passed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.TimerfdGettime(fd, &spec); err != nil {
		t.Fatal(err)
	}
	return fd, spec
}

// TestTicks: a periodic timer stays in step, and what came due meanwhile is read.
func TestTicks(t *testing.T) {
	fd, spec := timer(t, &image.Timerfd{Clock: unix.CLOCK_MONOTONIC, Ticks: 3,
		Setting: image.Interval{Value: [2]int64{100, 0}, Every: [2]int64{1000, 0}}}, image.Clock{}, 2200e9)
	if spec.Value.Sec < 800 || spec.Value.Sec > 900 {
		t.Errorf("the next tick comes in %d s, not 900", spec.Value.Sec)
	}
	b := make([]byte, 8)
	if _, err := unix.Read(fd, b); err != nil || binary.LittleEndian.Uint64(b) != 6 {
		t.Errorf("%d ticks (%v), not the three that were unread and three more", binary.LittleEndian.Uint64(b), err)
	}
}

// TestTimeOfDay: what waits for a time of day waits for the same one again, as
// long as the machine may have been off.
func TestTimeOfDay(t *testing.T) {
	now := time.Now()
	at := image.Clock{Realtime: now.Add(-time.Hour).UnixNano()}
	left := func(value int64) time.Duration {
		_, spec := timer(t, &image.Timerfd{Clock: unix.CLOCK_REALTIME, Settime: unix.TFD_TIMER_ABSTIME | unix.TFD_TIMER_CANCEL_ON_SET,
			Setting: image.Interval{Value: [2]int64{value, 0}}}, at, 0)
		return time.Duration(spec.Value.Nano())
	}
	if got := left(7200); got < 50*time.Minute || got > time.Hour {
		t.Errorf("%v are left of two hours an hour ago", got)
	}
	if got := left(1800); got != 0 {
		t.Errorf("%v are left of half an hour an hour ago", got)
	}
}

func TestLocks(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := image.Description{Flags: unix.O_RDWR | unix.O_APPEND, Locks: []image.Lock{
		{Class: "OFDLCK", Write: true, Start: 10, End: 19}, {Class: "FLOCK", Write: false}}}
	if err := description.Finish(int(f.Fd()), &d); err != nil {
		t.Fatal(err)
	}
	other, err := os.OpenFile(f.Name(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, c := range []struct {
		at   int64
		free bool
	}{{9, true}, {10, false}, {19, false}, {20, true}} {
		k := unix.Flock_t{Type: unix.F_WRLCK, Start: c.at, Len: 1}
		err := unix.FcntlFlock(other.Fd(), unix.F_OFD_SETLK, &k)
		if (err == nil) != c.free {
			t.Errorf("byte %d: %v", c.at, err)
		}
	}
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("whole lock beside a shared one: %v", err)
	}
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_APPEND == 0 {
		t.Errorf("flags %#o: %v", flags, err)
	}
}

// TestIsSemaphore looks twice: the first look changes nothing.
func TestIsSemaphore(t *testing.T) {
	for _, count := range []uint64{0, 1, 2, 3, 1000, 1<<64 - 2} {
		for _, semaphore := range []bool{false, true} {
			fd, err := description.Eventfd(&image.Event{Count: count, Semaphore: semaphore})
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			for range 2 {
				got, err := description.IsSemaphore(fd, count)
				if err != nil || got != semaphore {
					t.Errorf("count %d: semaphore %v, error %v, want %v", count, got, err, semaphore)
				}
			}
			info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
			if want := fmt.Sprintf("eventfd-count: %16x\n", count); err != nil || !strings.Contains(string(info), want) {
				t.Errorf("%s%v, want %s", info, err, want)
			}
		}
	}
}
