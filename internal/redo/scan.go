package redo

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// A DamageError says that something is missing that had been made durable.
type DamageError struct {
	File string   // segment; "": one that is missing
	At   Position // what was to begin here is not there
	Why  string
}

func (e *DamageError) Error() string {
	if e.File == "" {
		return fmt.Sprintf("log damaged at %d: %s", e.At, e.Why)
	}
	return fmt.Sprintf("log damaged at %d in %s: %s", e.At, e.File, e.Why)
}

func noLog(at Position) error { return &DamageError{At: at, Why: "there is no log"} }

// found is the files of a log.
type found struct {
	used   []segment // by their turns
	spare  []uint64  // made, and not in use
	strays []string  // left behind half made
	next   uint64    // a number that none has
}

// list looks what files there are. Where the log is open one that is not needed
// may get another name meanwhile.
func list(d disk.FS, dir string, open bool) (found, error) {
	out := found{next: 1}
	entries, err := d.ReadDir(dir)
	if err != nil {
		return out, err
	}
	for _, e := range entries {
		if disk.IsTemp(e.Name()) {
			out.strays = append(out.strays, e.Name())
			continue
		}
		n, ok := segmentNumber(e.Name())
		if !ok {
			continue
		}
		out.next = max(out.next, n+1)
		s, err := readHeader(d, dir, n)
		if open && errors.As(err, new(*DamageError)) {
			s, err = readHeader(d, dir, n) // it may have been read while it was written
		}
		switch {
		case open && errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, errUnused):
			out.spare = append(out.spare, n)
		case err != nil:
			return out, err
		default:
			out.used = append(out.used, s)
		}
	}
	slices.SortFunc(out.used, func(a, b segment) int { return cmp.Compare(a.turn, b.turn) })
	return out, nil
}

// tail is where a log ends.
type tail struct {
	end     Position
	durable Position // up to here nothing need be written anew
	torn    bool     // a frame was begun behind it
	frames  []frame  // from durable on, with their payloads
}

// scan reads all frames from a position on.
func scan(d disk.FS, dir string, used []segment, from Position, yield func(frame) error) (tail, error) {
	t := tail{end: from, durable: from}
	used, begin := live(used), 0
	for i, s := range used {
		if s.start <= from {
			begin = i
		}
	}
	if len(used) == 0 && from > 0 {
		return t, noLog(from)
	}
	if len(used) == 0 {
		return t, nil
	}
	if t.end = used[begin].start; t.end > from {
		return t, &DamageError{At: from, Why: fmt.Sprintf("the log begins at %d", t.end)}
	}
	t.durable = t.end
	for i := begin; i < len(used); i++ {
		limit := ^Position(0)
		if i+1 < len(used) {
			limit = used[i+1].start
		}
		if err := t.segment(d, dir, used[i], from, limit, yield); err != nil {
			return t, err
		}
	}
	if t.end < from {
		return t, &DamageError{At: t.end, Why: fmt.Sprintf("the log ends here, and %d was durable", from)}
	}
	return t, nil
}

// live leaves out the segments of which nothing counts, since a later one begins
// where they do, or before: one that was begun, and cut before its first frame
// was whole, is followed by one that begins with the tail that was found.
func live(used []segment) []segment {
	var all []segment
	for _, s := range used {
		for len(all) > 0 && all[len(all)-1].start >= s.start {
			all = all[:len(all)-1]
		}
		all = append(all, s)
	}
	return all
}

// segment reads the frames of one, up to limit, where the next one begins.
// What is damaged before from is of no interest.
func (t *tail) segment(d disk.FS, dir string, s segment, from, limit Position, yield func(frame) error) error {
	name := segmentName(dir, s.number)
	end := int64(pageSize) + s.room
	if limit != ^Position(0) {
		end = pageSize + int64(limit-s.start)
	}
	b, err := readSegment(d, name, end)
	if err != nil {
		return err
	}
	last := limit == ^Position(0)
	if last && int64(len(b)) < end {
		return &DamageError{File: name, At: t.end, Why: fmt.Sprintf("it has %d bytes, not %d", len(b), end)}
	}
	for t.end < limit {
		at := pageSize + int64(t.end-s.start)
		if at > int64(len(b)) {
			at = int64(len(b))
		}
		f, err := parse(b[at:], s.salt, t.end)
		if err == nil && f.end() > limit {
			err = errFrame
		}
		if errors.Is(err, errFrame) {
			if next, ok := laterFrame(b, s, t.end, 0); ok && next <= min(from, limit) {
				t.end, t.durable, t.frames = next, next, nil
				continue
			}
			if !last {
				return &DamageError{File: name, At: t.end, Why: "a frame that was durable is not there"}
			}
			if later, ok := laterFrame(b, s, t.end, t.end+1); ok {
				return &DamageError{File: name, At: t.end, Why: fmt.Sprintf("a frame is not there that was durable when the one at %d was written", later)}
			}
			t.torn = at+frameHeader <= int64(len(b)) && Position(binary.LittleEndian.Uint64(b[at+8:])) == t.end && t.end > 0 && b[at+24] != kindClosing
			return nil // it was never durable
		}
		if err != nil {
			return err
		}
		if err := yield(f); err != nil {
			return err
		}
		t.durable = max(t.durable, f.durable)
		t.frames = slices.DeleteFunc(append(t.frames, f), func(f frame) bool { return f.end() <= t.durable })
		t.end = f.end()
	}
	return nil
}

func readSegment(d disk.FS, name string, end int64) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(fi.Size(), end))
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

// laterFrame looks for a frame behind a place that knows of a position to be
// durable: if that lies behind the place, what is missing there is no torn tail.
func laterFrame(b []byte, s segment, from, durable Position) (Position, bool) {
	for at := pageSize + int64(from-s.start) + frameAlign; at+frameHeader <= int64(len(b)); at += frameAlign {
		p := s.start + Position(at-pageSize)
		if Position(binary.LittleEndian.Uint64(b[at+8:])) != p {
			continue
		}
		if f, err := parse(b[at:], s.salt, p); (err == nil || errors.Is(err, ErrNewer)) && f.durable >= durable {
			return p, true
		}
	}
	return 0, false
}
