package store

import (
	"bytes"
	"runtime"
	"sync"

	"github.com/wakepoint/wakepoint/internal/seal"
)

const (
	chunkSize   = 256 << 10 // bytes of pages in one chunk
	chunkOpsMax = 4096      // operations in one chunk
	hashersMax  = 4
	outMax      = 16 // chunks that are encoded at a time
	expectMax   = 64 // chunks that are made ready beforehand, 16 MiB
)

type verb int

const (
	opPut verb = iota
	opZero
	opClose
	opBlob
)

// op is one call of a draft's user, to be done in the background.
type op struct {
	verb verb
	s    *SectionWriter
	off  int64
	n    int64  // bytes
	at   int    // put: where the bytes lie in the chunk
	name string // blob
	data []byte // blob
}

// chunk is a run of operations with the pages that they store.
type chunk struct {
	buf   []byte
	ops   []op
	ids   [chunkSize / PageSize]identity
	zero  [chunkSize / PageSize]bool
	enc   [chunkSize / PageSize]payload
	out   []byte        // what enc lies in, as far as it does not lie in buf
	ready chan struct{} // closed when ids, zero and enc are filled in
}

// feed takes operations from the caller, who must wait for nothing but memory
// being copied, and does them in order in the background: several goroutines
// identify pages, one applies them. At most limit chunks are in memory.
//
// While a program stands still, chunks are held back until half the limit is in
// use: nothing competes with the copying. At other times a few chunks go round,
// which stay in the processor's caches.
//
// A feed that failed goes on taking operations and drops them.
type feed struct {
	apply func(*chunk) error

	cur   *chunk
	held  []*chunk
	hold  bool // chunks are held back
	still bool // the program stands still
	used  int  // chunks that were filled
	waits int  // how often there was no room while it stood still
	limit int
	made  int
	free  chan *chunk
	out   chan []byte // room for what is encoded
	hash  chan *chunk
	order chan *chunk
	wait  sync.WaitGroup

	mu  sync.Mutex // guards err
	err error
}

// newFeed starts a feed. It has memory for expect chunks at hand, so that the
// copying meets no page that is not there yet.
func newFeed(buffer int64, expect int, keys keyring, apply func(*chunk) error) *feed {
	limit := max(2, int(buffer/chunkSize))
	f := &feed{
		apply: apply,
		limit: limit,
		free:  make(chan *chunk, limit),
		out:   make(chan []byte, outMax),
		hash:  make(chan *chunk, limit),
		order: make(chan *chunk, limit),
	}
	for range min(expect, limit/2) {
		f.made++
		c := &chunk{buf: make([]byte, chunkSize), ops: make([]op, 0, 64)}
		for i := 0; i < len(c.buf); i += PageSize {
			c.buf[i] = 1
		}
		c.buf = c.buf[:0]
		f.free <- c
	}
	for range outMax {
		f.out <- nil // made when it is needed
	}
	for range min(hashersMax, runtime.GOMAXPROCS(0)) {
		f.wait.Go(func() { f.identify(keys.identities().Hash()) })
	}
	f.wait.Go(f.run)
	return f
}

func (f *feed) failed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// fail makes the feed drop all that is in it and all that comes.
func (f *feed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

// chunk returns the chunk that takes the next operation. It blocks while the
// buffer is full.
func (f *feed) chunk() *chunk {
	if f.cur != nil && len(f.cur.ops) >= chunkOpsMax {
		f.submit()
	}
	if f.cur != nil {
		return f.cur
	}
	select {
	case f.cur = <-f.free:
	default:
		if f.made < f.limit && (f.still || f.made < expectMax) {
			f.made++
			f.cur = &chunk{buf: make([]byte, 0, chunkSize)}
			break
		}
		if f.still {
			f.waits++
		}
		f.cur = <-f.free
	}
	f.cur.ready = make(chan struct{})
	return f.cur
}

func (f *feed) submit() {
	if f.cur == nil {
		return
	}
	c := f.cur
	f.cur = nil
	f.used++
	if f.hold && len(f.held) < f.limit/2 {
		f.held = append(f.held, c)
		return
	}
	f.begin()
	f.hash <- c
	f.order <- c
}

// stand says whether the program stands still from now on. What was given
// before is then out of the way: it takes neither room nor processors.
func (f *feed) stand(still bool) {
	f.submit()
	f.begin()
	if f.still, f.hold = still, still; !still {
		return
	}
	all := make([]*chunk, f.made)
	for i := range all {
		all[i] = <-f.free
	}
	for _, c := range all {
		f.free <- c
	}
}

// begin hands over what was held back, and holds back nothing more.
func (f *feed) begin() {
	f.hold = false
	for _, c := range f.held {
		f.hash <- c
		f.order <- c
	}
	f.held = nil
}

// put copies pages in.
func (f *feed) put(s *SectionWriter, off int64, p []byte) {
	for len(p) > 0 {
		c := f.chunk()
		n := min(len(p), chunkSize-len(c.buf))
		if last := len(c.ops) - 1; last >= 0 && c.ops[last].verb == opPut && c.ops[last].s == s && c.ops[last].off+c.ops[last].n == off {
			c.ops[last].n += int64(n)
		} else {
			c.ops = append(c.ops, op{verb: opPut, s: s, off: off, n: int64(n), at: len(c.buf)})
		}
		c.buf = append(c.buf, p[:n]...)
		off += int64(n)
		p = p[n:]
		if len(c.buf) == chunkSize {
			f.submit()
		}
	}
}

// do queues an operation without pages.
func (f *feed) do(o op) {
	c := f.chunk()
	c.ops = append(c.ops, o)
}

// finish waits for all that was queued and lets go of the memory. Nothing may
// be given to the feed any more.
func (f *feed) finish() error {
	f.submit()
	f.begin()
	close(f.hash)
	close(f.order)
	f.wait.Wait()
	f.free = nil
	return f.failed()
}

// identify fills in the identities of chunks, and encodes their pages. Whoever
// takes a chunk has room for it already: with all the room in the hands of
// later chunks, the one that is next would wait for ever.
func (f *feed) identify(h *seal.Hash) {
	e := pageEncoder{h: h}
	for out := range f.out {
		c, ok := <-f.hash
		if !ok {
			f.out <- out // for the others, who wait for it to see the end
			return
		}
		if c.out = out; c.out == nil {
			c.out = make([]byte, chunkSize/PageSize*pageEncodedMax)
		}
		if f.failed() == nil {
			e.encode(c)
		}
		close(c.ready)
	}
}

// pageEncoder identifies and encodes pages.
type pageEncoder struct {
	h     *seal.Hash
	none  [PageSize]byte
	plain int // pages in a row that could not be compressed
}

func (e *pageEncoder) encode(c *chunk) {
	for i := range len(c.buf) / PageSize {
		p := c.buf[i*PageSize : (i+1)*PageSize]
		if c.zero[i] = bytes.Equal(p, e.none[:]); c.zero[i] {
			continue
		}
		e.h.Sum(c.ids[i][:], p)
		c.enc[i] = payload{codecRaw, p}
		if e.plain < triesMax || i%triesMax == 0 {
			c.enc[i] = encodeS2(c.out[i*pageEncodedMax:i*pageEncodedMax:(i+1)*pageEncodedMax], p)
		}
		if e.plain++; c.enc[i].codec != codecRaw {
			e.plain = 0
		}
	}
}

// run applies chunks in order.
func (f *feed) run() {
	for c := range f.order {
		<-c.ready
		if f.failed() == nil {
			if err := f.apply(c); err != nil {
				f.fail(err)
			}
		}
		f.out <- c.out
		c.out = nil
		c.buf = c.buf[:0]
		clear(c.ops)
		c.ops = c.ops[:0]
		f.free <- c
	}
}
