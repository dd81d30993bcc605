package store

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// stopping is a disk that, once it is told to, takes nothing until a channel is
// closed.
type stopping struct {
	unsynced
	stops *atomic.Bool
	until chan struct{}
}

func (s stopping) Create(name string) (disk.File, error) {
	f, err := s.unsynced.Create(name)
	return stoppingFile{f, s}, err
}

type stoppingFile struct {
	disk.File
	disk stopping
}

func (f stoppingFile) Write(b []byte) (int, error) {
	if f.disk.stops.Load() {
		<-f.disk.until
	}
	return f.File.Write(b)
}

// TestWaits says of a draft whether it was larger than its buffer, on a disk that
// takes nothing until nobody can go on.
func TestWaits(t *testing.T) {
	for _, c := range []struct {
		pages int
		waits bool
	}{{100, false}, {4000, true}} {
		synctest.Test(t, func(t *testing.T) {
			fs := stopping{stops: new(atomic.Bool), until: make(chan struct{})}
			w := lockedWorkload(t, fs, filepath.Join(t.TempDir(), "w"))
			d, err := w.BeginBuffered(0, 1<<20)
			must(t, err)
			s, err := d.Section("mem", false)
			must(t, err)
			for i := range 4000 { // while the program runs it does not matter
				must(t, s.Put(int64(i)*PageSize, page(i)))
			}
			d.Still(true)
			fs.stops.Store(true)
			go func() {
				synctest.Wait()
				close(fs.until)
			}()
			for i := range c.pages { // others: what is known is not written
				must(t, s.Put(int64(i)*PageSize, page(4000+i)))
			}
			if (d.Waits() > 0) != c.waits {
				t.Errorf("%d pages: %d waits", c.pages, d.Waits())
			}
			must(t, d.Abort())
		})
	}
}
