package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/seal"
)

// storeMiB is the size of the section that BenchmarkStore works on.
func storeMiB(b *testing.B) int64 {
	n, err := strconv.ParseInt(os.Getenv("WAKEPOINT_BENCH_MIB"), 10, 64)
	if err != nil {
		return 1024
	}
	return n
}

// halfPage makes a page of which half can be compressed away.
func halfPage(r *rand.ChaCha8, p []byte) {
	clear(p[PageSize/2:])
	for i := 0; i < PageSize/2; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], r.Uint64())
	}
}

// BenchmarkStore prints the numbers of a store with many generations, each
// beside its floor, measured in turn: see doc/bench.md.
func BenchmarkStore(b *testing.B) {
	pages := storeMiB(b) << 20 / PageSize
	s := &storeBench{b: b, pages: pages, r: rand.NewChaCha8([32]byte{1})}
	s.mem = make([]byte, pages*PageSize)
	for i := range pages {
		halfPage(s.r, s.mem[i*PageSize:(i+1)*PageSize])
	}
	w, err := OpenWorkload(filepath.Join(b.TempDir(), "w"), Options{Key: seal.New(), Buffer: 256 << 20})
	must(b, err)
	l, err := w.Lock()
	must(b, err)
	defer l.Close()
	s.w = w
	for b.Loop() {
		s.throughput()
		s.generations()
		s.verify()
		s.sparse()
	}
}

type storeBench struct {
	b     *testing.B
	w     *Workload
	pages int64
	mem   []byte
	r     *rand.ChaCha8
	image int64 // bytes of one compressed image
}

func (s *storeBench) print(what, format string, args ...any) {
	fmt.Printf("%-52s %s\n", what, fmt.Sprintf(format, args...))
}

func mibs(n int64, d time.Duration) float64 { return float64(n) / (1 << 20) / d.Seconds() }

// throughput stores the section whole, and beside it writes the same bytes to
// a plain file, and lets them through the pipeline alone.
func (s *storeBench) throughput() {
	const turns = 3
	var stored, plain, alone []time.Duration
	var busy [4]time.Duration // processor time before and after each
	var work [3]time.Duration
	for range turns {
		busy[0] = processorTime(s.b)
		begin := time.Now()
		g := write(s.b, s.w, 0, false, func(sw *SectionWriter) error { return sw.Put(0, s.mem) })
		stored = append(stored, time.Since(begin))
		s.image = g.NewBytes
		busy[1] = processorTime(s.b)
		plain = append(plain, s.plain())
		busy[2] = processorTime(s.b)
		alone = append(alone, s.alone())
		busy[3] = processorTime(s.b)
		for i := range work {
			work[i] += busy[i+1] - busy[i]
		}
	}
	for _, d := range [][]time.Duration{stored, plain, alone} {
		slices.Sort(d)
	}
	n := s.pages * PageSize
	store, disk, pipe := mibs(n, stored[turns/2]), mibs(s.image, plain[turns/2]), mibs(n, alone[turns/2])
	// The disk takes what is left after compression.
	slower := min(disk*float64(n)/float64(s.image), pipe)
	s.print("stored, half of it compressible, MiB/s", "%.0f", store)
	s.print("floor: plain write + fsync of what is stored, MiB/s", "%.0f (%.0f of memory)", disk, disk*float64(n)/float64(s.image))
	s.print("floor: BLAKE3 + S2 + AES-GCM alone, MiB/s", "%.0f", pipe)
	s.print("stored / the slower floor (goal 0.8)", "%.2f", store/slower)
	s.print("processor time: stored / both floors together", "%.2f (%.2f s / %.2f s + %.2f s, of %d processors)", work[0].Seconds()/(work[1]+work[2]).Seconds(),
		work[0].Seconds()/turns, work[1].Seconds()/turns, work[2].Seconds()/turns, runtime.GOMAXPROCS(0))
}

// processorTime is what this process has had, user and system.
func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// plain writes and fsyncs as many bytes as one image takes.
func (s *storeBench) plain() time.Duration {
	begin := time.Now()
	f, err := os.Create(filepath.Join(s.b.TempDir(), "plain"))
	must(s.b, err)
	for at := int64(0); at < s.image; at += 1 << 20 {
		_, err := f.Write(s.mem[at : at+min(1<<20, s.image-at)])
		must(s.b, err)
	}
	must(s.b, f.Sync())
	d := time.Since(begin)
	must(s.b, f.Close())
	must(s.b, os.Remove(f.Name()))
	return d
}

// alone lets the pages through hash, compression and seal on as many
// goroutines as the store has at work, and writes nothing.
func (s *storeBench) alone() time.Duration {
	begin := time.Now()
	workers := int64(runtime.GOMAXPROCS(0))
	done := make(chan bool)
	for k := range workers {
		go func() {
			key := seal.New()
			h, sealer := key.Hash(), key.Sealer()
			var id [identitySize]byte
			buf, out := make([]byte, pageEncodedMax), make([]byte, 0, pageEncodedMax+seal.Overhead)
			ad := make([]byte, adSize)
			for i := k; i < s.pages; i += workers {
				p := s.mem[i*PageSize : (i+1)*PageSize]
				h.Sum(id[:], p)
				out = sealer.Seal(out[:0], uint64(i), encodeS2(buf[:0], p).data, ad)
			}
			done <- true
		}()
	}
	for range workers {
		<-done
	}
	return time.Since(begin)
}

// generations makes forty, each with 1 % of the pages changed, scattered.
func (s *storeBench) generations() {
	var last Info
	infos, _, err := s.w.Generations()
	must(s.b, err)
	last = infos[0]
	_, err = s.w.Retain(1)
	must(s.b, err)
	first := last.Generation
	var index, data int64
	r := rand.New(s.r)
	for range 39 {
		last = write(s.b, s.w, last.Generation, true, func(sw *SectionWriter) error {
			for range s.pages / 100 {
				at := r.Int64N(s.pages) * PageSize
				halfPage(s.r, s.mem[at:at+PageSize])
				if err := sw.Put(at, s.mem[at:at+PageSize]); err != nil {
					return err
				}
			}
			return nil
		})
		data += s.pages / 100 * (PageSize/2 + frameOverhead)
		index += last.NewBytes - s.pages/100*(PageSize/2+frameOverhead)
	}
	s.print("40 generations / one compressed image (goal 2.5)", "%.2f", float64(s.size())/float64(s.image))
	s.print("index and manifests / data of a generation (goal 0.3)", "%.2f", float64(index)/float64(data))
	oldest, newest := s.read(first), s.read(last.Generation)
	oldest, newest = min(oldest, s.read(first)), min(newest, s.read(last.Generation))
	s.print("oldest / newest, time to read (goal 1.2)", "%.2f (newest %.0f MiB/s)", oldest.Seconds()/newest.Seconds(), mibs(s.pages*PageSize, newest))
}

// size is what the workload takes on the disk.
func (s *storeBench) size() (n int64) {
	must(s.b, filepath.WalkDir(s.w.Dir(), func(_ string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			info, ierr := e.Info()
			err = ierr
			n += info.Size()
		}
		return err
	}))
	return n
}

func (s *storeBench) read(g Generation) time.Duration {
	begin := time.Now()
	r, err := s.w.OpenGeneration(g)
	must(s.b, err)
	defer r.Close()
	sec, err := r.Section("mem")
	must(s.b, err)
	must(s.b, sec.Each(0, s.pages*PageSize, func(int64, []byte) error { return nil }))
	return time.Since(begin)
}

// verify reads everything, beside a plain reading of the same files.
func (s *storeBench) verify() {
	begin := time.Now()
	found, err := s.w.Verify(context.Background())
	took := time.Since(begin)
	if err != nil || len(found) > 0 {
		s.b.Fatalf("verify: %v, %v", found, err)
	}
	n := s.size()
	begin = time.Now()
	sealer, out, ad := seal.New().Sealer(), make([]byte, 0, 2*PageSize), make([]byte, adSize)
	for at := int64(0); at < n; at += PageSize {
		out = sealer.Seal(out[:0], uint64(at), s.mem[at%int64(len(s.mem)):][:PageSize], ad)
	}
	cipher := time.Since(begin)
	disk := s.cold()
	s.print("verify, MiB/s of the store", "%.0f", mibs(n, took))
	s.print("floor: the cipher alone, MiB/s", "%.0f", mibs(n, cipher))
	s.print("floor: reading the same files from the disk, MiB/s", "%.0f", mibs(n, disk))
	s.print("verify / the slower floor (goal 0.5)", "%.2f", max(cipher, disk).Seconds()/took.Seconds())
}

// cold reads all files of the workload, which the page cache has forgotten.
func (s *storeBench) cold() (d time.Duration) {
	buf := make([]byte, 4<<20)
	must(s.b, filepath.WalkDir(s.w.Dir(), func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return err
		}
		begin := time.Now()
		for err == nil {
			_, err = f.Read(buf)
		}
		d += time.Since(begin)
		if err == io.EOF {
			err = nil
		}
		return err
	}))
	return d
}

// sparse puts pages far apart into a section of 16 GiB.
func (s *storeBench) sparse() {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	w, err := OpenWorkload(filepath.Join(s.b.TempDir(), "sparse"), Options{FS: disk.OS{}})
	must(s.b, err)
	l, err := w.Lock()
	must(s.b, err)
	defer l.Close()
	write(s.b, w, 0, false, func(sw *SectionWriter) error {
		for at := int64(0); at < 16<<30; at += 64 << 10 {
			if err := sw.Put(at, s.mem[:PageSize]); err != nil {
				return err
			}
		}
		return nil
	})
	runtime.ReadMemStats(&after)
	s.print("a sparse section of 16 GiB: MiB of heap (goal 64)", "%d in use, %d from the system", (int64(after.HeapInuse)-int64(before.HeapInuse))>>20, (int64(after.HeapSys)-int64(before.HeapSys))>>20)
}
