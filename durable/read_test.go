package durable_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/wakepoint/wakepoint/durable/durabletest"
)

// TestReadFault lets each call fail that only reads, once and from then on, while
// a database is opened, read, and used. Nothing wrong is read, and when the disk
// can be read again nothing is lost.
func TestReadFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlips(&quietLog{t}, 1)
		met := 0
		for times := range 2 {
			for after := 0; ; after++ {
				d, hit := f.disk.Kill(), false
				f.disk = f.disk.Kill()
				n := 0
				d.Inject(durabletest.Fault{Times: times, On: func(op durabletest.Op) bool {
					switch op.Verb {
					case "open", "read", "readdir", "lstat", "lock":
						n++
					default:
						return false
					}
					hit = hit || n > after
					return n > after
				}})
				_, err := f.look(d)
				if err != nil && !errors.Is(err, syscall.EIO) && !isDamage(err) {
					t.Errorf("read %d fails, times %d: %v", after, times, err)
				}
				d.Heal()
				if err := f.again(d.Kill()); err != nil {
					t.Errorf("read %d failed, times %d; then: %v", after, times, err)
				}
				if !hit {
					break
				}
				met++
			}
		}
		if t.Logf("%d reads failed", met); met < 60 {
			t.Error("they are too few")
		}
	})
}

// again opens a database that must be whole.
func (f *flips) again(d *durabletest.Disk) error {
	s, err := start(d, dir, 4)
	if err != nil {
		return err
	}
	n, err := s.whole(f.all)
	if err == nil && n != f.last {
		err = &lostError{n, f.last}
	}
	return errors.Join(err, s.Verify(context.Background()), s.Close())
}

// quietLog is a test that logs nothing.
type quietLog struct{ testing.TB }

func (quietLog) Logf(string, ...any) {}
