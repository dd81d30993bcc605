// Package redo is a log of records that were acknowledged: each is durable
// before anybody is told, many of them with one flush.
//
// Records are appended in order, by one caller at a time, and get a position at
// once. Any number of callers wait until a position is durable; one of them
// writes for all. What a flush writes is one frame, behind the one before; a
// frame says up to where the log was durable when it was written, so that a
// frame that is missing below that is damage, and one that is missing above it
// is a tail that was cut short, which nobody was told of.
//
// The files are made beforehand, full of zeros, and are used again, so that a
// flush changes no size and needs nothing of the file system's journal. A file
// whose fsync failed is not trusted again: what it should hold is written anew
// elsewhere.
package redo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// Errors are passed on by package durable as they are, and so they begin as its own do.

// ErrFull says that the disk has no room for another segment. Nothing was
// changed; it goes away by itself when there is room.
var ErrFull = errors.New("durable: no room for the log")

// ErrPoisoned says that the log could not be written, and could not be written
// elsewhere either: what it holds is known only after it was opened again.
var ErrPoisoned = errors.New("durable: the log cannot be written")

// ErrTooLarge says that a record has no room in any frame.
var ErrTooLarge = errors.New("durable: too large")

// ErrClosed says that the log was closed.
var ErrClosed = errors.New("durable: closed")

const (
	// RecordMax is the size of the largest record, in bytes.
	RecordMax = 1<<25 - 64

	segmentRoom = 16 << 20               // of a segment, in bytes
	batchMax    = 4 << 20                // records are added to a frame until it has so much
	spares      = 2                      // segments that are made beforehand
	idle        = 10 * time.Millisecond  // after which a frame says that the last one is durable
	again       = 250 * time.Millisecond // from one try to make a segment to the next
	rewrites    = 2                      // segments that are tried when one cannot be written
	scratchMax  = 1 << 20                // of a buffer that is kept
)

// Options says where a log lies.
type Options struct {
	FS   disk.FS // nil: the operating system's
	Dir  string  // exists, and is locked by the caller
	Room int64   // of a segment, in bytes; 0: 16 MiB
	Made bool    // there was one before: if there is none it is damage
}

// Log is an open log.
type Log struct {
	o    Options
	pool *pool
	idle *time.Timer // when nothing was written for a while

	mu      sync.Mutex
	batch   *batch // what is appended next
	flight  *batch // what is being written; nil: nothing
	flying  bool   // somebody writes, or is asked to
	durable Position
	closing bool        // the last frame only says what is durable
	armed   bool        // the timer runs
	rested  bool        // nothing was written since its last tick
	failed  error       // ErrPoisoned or ErrClosed
	over    atomic.Bool // failed is set
	used    []segment
	spare   []byte          // of a batch that was written, for another one
	suspect map[uint64]bool // files that are not to be used again
	torn    bool

	// Of whoever writes.
	seg     segment
	file    disk.File
	page    []byte // of the last page that was written, as far as it is full
	scratch []byte
}

// batch is a frame that is being filled.
type batch struct {
	at   Position
	buf  []byte        // with room for the header
	done chan struct{} // closed when it is durable, or never will be
	lead chan struct{} // holds one: whoever takes it writes the batch
	err  error         // before done
}

func newBatch(at Position, buf []byte) *batch {
	if buf == nil {
		buf = make([]byte, frameHeader, 512)
	}
	return &batch{at: at, buf: buf, done: make(chan struct{}), lead: make(chan struct{}, 1)}
}

func (b *batch) empty() bool { return len(b.buf) == frameHeader }

// Append adds a record when it has room, and returns the position behind it. Only
// one caller may append at a time. Errors: ErrTooLarge, ErrFull, ErrPoisoned,
// ErrClosed, or the context's; then nothing was added.
func (l *Log) Append(ctx context.Context, record []byte) (Position, error) {
	if n := len(record); n > RecordMax {
		return 0, fmt.Errorf("%w: a record of %d bytes, at most %d", ErrTooLarge, n, RecordMax)
	}
	for {
		end, b, room, err := l.append(record)
		switch {
		case err != nil:
			return 0, err
		case end > 0:
			return end, nil
		case room > 0:
			err = l.pool.admit(ctx, room)
		default:
			err = l.wait(ctx, b)
		}
		if err != nil {
			return 0, err
		}
	}
}

// append adds a record if it has room at once. If not, the batch is full or there
// has to be a segment with so much room.
func (l *Log) append(record []byte) (end Position, b *batch, room int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b = l.batch; l.failed != nil {
		return 0, b, 0, l.failed
	}
	if !b.empty() && len(b.buf)+len(record) > batchMax {
		return 0, b, 0, nil
	}
	room = int64(aligned(len(b.buf) + len(record) + binary.MaxVarintLen32))
	if !l.pool.admits(room) {
		return 0, b, room, nil
	}
	b.buf = binary.AppendUvarint(b.buf, uint64(len(record)))
	b.buf = append(b.buf, record...)
	return b.at + Position(len(b.buf)), b, 0, nil
}

// Durable is up to where the log is durable.
func (l *Log) Durable() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable
}

// Err says why nothing can be written any more: ErrPoisoned or ErrClosed; nil:
// it can.
func (l *Log) Err() error {
	if !l.over.Load() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// End is the position behind the last record that was appended.
func (l *Log) End() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.batch.empty() {
		return l.batch.at
	}
	return l.batch.at + Position(len(l.batch.buf))
}

// Wait returns when all up to a position is durable. When the context ends
// before, it may become so all the same.
func (l *Log) Wait(ctx context.Context, p Position) error {
	l.mu.Lock()
	b := l.batch
	if p <= b.at && l.flight != nil {
		b = l.flight
	}
	switch {
	case l.durable >= p:
		l.mu.Unlock()
		return nil
	case l.failed != nil:
		defer l.mu.Unlock()
		return l.failed
	}
	l.mu.Unlock()
	return l.wait(ctx, b)
}

// wait returns when a batch is durable, and writes it if nobody else does.
func (l *Log) wait(ctx context.Context, b *batch) error {
	l.mu.Lock()
	first := !l.flying && l.failed == nil && b == l.batch
	l.flying = l.flying || first
	l.mu.Unlock()
	if first {
		l.fly(ctx)
	}
	for {
		select {
		case <-b.done:
			return b.err
		case <-b.lead:
			l.fly(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fly writes a batch, which goes on when the context ends.
func (l *Log) fly(ctx context.Context) {
	if ctx.Done() == nil {
		l.lead()
	} else {
		go l.lead()
	}
}

// lead writes the batch that is appended to. Those that the last flush let go
// are given time to join it (half of all commits are gained by that).
func (l *Log) lead() {
	runtime.Gosched()
	l.mu.Lock()
	b, kind := l.batch, kindRecords
	if b.empty() {
		kind = kindClosing
	}
	end := b.at + Position(aligned(len(b.buf)-frameHeader))
	l.flight, l.batch = b, newBatch(end, l.spare)
	l.spare = nil
	durable := l.durable
	l.mu.Unlock()

	err := l.write(b, kind, durable)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.flight = nil
	if err != nil {
		if l.failed == nil {
			l.fail(fmt.Errorf("%w: %w", ErrPoisoned, err))
		}
		b.err, l.batch.err = l.failed, l.failed
		close(l.batch.done)
	} else {
		l.durable, l.closing = end, kind == kindClosing
		l.rested = false
		if cap(b.buf) <= scratchMax {
			l.spare = b.buf[:frameHeader]
		}
		if !l.armed && l.failed == nil {
			l.armed = true
			l.idle.Reset(idle)
		}
	}
	close(b.done)
	if l.flying = err == nil && !l.batch.empty(); l.flying {
		l.batch.lead <- struct{}{}
	}
}

// fail says why nothing can be written any more: mu is held.
func (l *Log) fail(err error) {
	l.failed = err
	l.over.Store(true)
}

// tick is called now and then as long as something is written, and rests when
// nothing was since the last time. A timer that every flush set anew would cost
// each of them a call of the system.
func (l *Log) tick() {
	l.mu.Lock()
	quiet := l.rested
	l.rested, l.armed = true, !quiet
	if !quiet && l.failed == nil {
		l.idle.Reset(idle)
	}
	l.mu.Unlock()
	if quiet {
		l.rest()
	}
}

// rest writes that the last frame is durable, if none has said so.
func (l *Log) rest() {
	l.mu.Lock()
	b := l.batch
	if l.failed != nil || l.closing && b.empty() || l.flying && b.empty() {
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	_ = l.wait(context.Background(), b) // whoever waits for it hears the error
}

// write makes a batch durable, in another file if that of the log fails.
func (l *Log) write(b *batch, kind byte, durable Position) error {
	room := int64(aligned(len(b.buf) - frameHeader))
	if int64(b.at-l.seg.start)+room > l.seg.room {
		return l.elsewhere(b, kind, durable, room, nil)
	}
	err := l.put(b, kind, durable, false)
	if err == nil {
		return nil
	}
	l.distrust()
	return l.elsewhere(b, kind, durable, room, err)
}

// elsewhere begins another segment with a batch.
func (l *Log) elsewhere(b *batch, kind byte, durable Position, room int64, failed error) error {
	for range rewrites {
		sp, err := l.pool.take(room)
		if err != nil {
			return errors.Join(failed, err)
		}
		l.begin(sp, b.at)
		if err = l.put(b, kind, durable, true); err == nil {
			return nil
		}
		l.distrust()
		failed = errors.Join(failed, err)
	}
	return failed
}

// distrust keeps the file, whose fsync or write failed, from being used again.
func (l *Log) distrust() {
	l.mu.Lock()
	l.suspect[l.seg.number] = true
	l.mu.Unlock()
}

// begin makes a spare the file that is written to.
func (l *Log) begin(sp spare, at Position) {
	if l.file != nil {
		_ = l.file.Close()
	}
	l.file, l.page = sp.file, nil
	l.seg = segment{number: sp.number, start: at, salt: rand.Uint64(), room: sp.room, turn: l.seg.turn + 1}
	l.mu.Lock()
	l.used = append(l.used, l.seg)
	l.mu.Unlock()
}

// put writes a batch to its place in a segment, with the header of one that is
// new. Whole pages are written, so that none has to be read for that.
func (l *Log) put(b *batch, kind byte, durable Position, header bool) error {
	s, w := l.seg, l.scratch[:0]
	off := pageSize + int64(b.at-s.start)
	if header {
		w, off = append(w, s.page()...), 0
	} else {
		w, off = append(w, l.page...), off-int64(len(l.page))
	}
	frame := seal(b.buf, s.salt, b.at, durable, kind)
	w = append(w, frame...)
	full := len(w)
	w = append(w, make([]byte, -full&(pageSize-1))...)
	l.scratch = w[:0]
	if cap(l.scratch) > scratchMax {
		l.scratch = nil
	}
	if _, err := l.file.WriteAt(w, off); err != nil {
		return err
	}
	if err := l.file.Datasync(); err != nil {
		return err
	}
	l.page = append(l.page[:0], w[full&^(pageSize-1):full]...)
	return nil
}

// Segments is how many files the log has in use.
func (l *Log) Segments() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.used)
}

// Trim says that nothing before a position is needed any more.
func (l *Log) Trim(before Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.used) > 1 && l.used[1].start <= before {
		old := l.used[0]
		l.used = l.used[1:]
		l.pool.giveBack(old, l.suspect[old.number])
		delete(l.suspect, old.number)
	}
}

// part says what is durable in two frames, of which the second begins in another
// page than the last record: so that is missed even if all of its page is lost.
// Nobody else writes any more. What fails here takes nothing away.
func (l *Log) part() {
	at := l.batch.at
	room := -(pageSize + int64(at-l.seg.start)) & (pageSize - 1)
	if room < frameHeader {
		room += pageSize
	}
	if l.write(newBatch(at, make([]byte, room)), kindClosing, at) == nil {
		at += Position(room)
		_ = l.write(newBatch(at, nil), kindClosing, at)
	}
}

// Close writes what was appended, and ends the log.
func (l *Log) Close() error {
	l.mu.Lock()
	end := l.batch
	l.mu.Unlock()
	err := error(nil)
	if !end.empty() {
		err = l.wait(context.Background(), end)
	}
	l.rest() // and that it is durable
	l.mu.Lock()
	whole := l.failed == nil
	if whole {
		l.fail(ErrClosed)
	}
	for l.flying {
		b := l.flight
		l.mu.Unlock()
		if b != nil {
			<-b.done
		}
		l.mu.Lock()
	}
	l.mu.Unlock()
	l.idle.Stop()
	if whole && l.durable == l.batch.at {
		l.part()
	}
	l.pool.close()
	return errors.Join(err, l.file.Close())
}
