package durable_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/wakepoint/wakepoint/durable"
)

// second is a second reader of a directory, written from doc/durable.md alone.
type second struct {
	t     *testing.T
	dir   string
	id    []byte
	state map[string]string // by key as it stands in the files
	runs  int               // that were read
}

func (s *second) sum(parts ...[]byte) uint32 {
	return crc32.Checksum(slices.Concat(parts...), crc32.MakeTable(crc32.Castagnoli))
}

func (s *second) file(name string) []byte {
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *second) want(ok bool, format string, args ...any) {
	if s.t.Helper(); !ok {
		s.t.Fatalf(format, args...)
	}
}

// reader takes bytes apart.
type reader struct{ rest []byte }

func (r *reader) take(n uint64) []byte {
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	r.rest = r.rest[n:]
	return v
}

func u32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func u64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

func le(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// changes applies changes, and returns how many there are.
func (s *second) changes(b []byte) (n uint64) {
	last := []byte(nil)
	for r := (&reader{b}); len(r.rest) > 0; n++ {
		key := r.take(r.uvarint())
		s.want(n == 0 || bytes.Compare(last, key) < 0, "%x comes after %x", key, last)
		last = key
		if size := r.uvarint(); size == 0 {
			delete(s.state, string(key))
		} else {
			s.state[string(key)] = string(r.take(size - 1))
		}
	}
	return n
}

func (s *second) identity() {
	text := string(s.file("DURABLE"))
	lines := strings.SplitAfter(text, "\n")
	s.want(len(lines) == 3 && lines[0] == lines[1] && lines[2] == "", "identity %q", text)
	words := strings.Split(strings.TrimSuffix(lines[0], "\n"), " ")
	s.want(len(words) == 5 && slices.Equal(words[:3], []string{"wakepoint", "durable", "1"}), "identity %q", text)
	s.want(words[4] == fmt.Sprintf("%08x", s.sum([]byte(lines[0][:len(lines[0])-9]))), "the sum of %q", lines[0])
	s.id, _ = hex.DecodeString(words[3])
	s.want(len(s.id) == 16, "identity %x", s.id)
}

// generation reads the newest one, and returns its position.
func (s *second) generation(number uint64) uint64 {
	b := s.file(fmt.Sprintf("%016x.gen", number))
	h := b[:80]
	s.want(bytes.Equal(h, b[2048:2128]) && string(h[:8]) == "WKPTGNRN" && u32(h[8:]) == 1, "header %x", h)
	s.want(u32(h[12:]) == s.sum(s.id, h[:12], h[16:]) && u64(h[16:]) == number, "header %x", h)
	at, size := u64(h[40:]), u64(h[48:])
	index := b[at : at+size]
	s.want(bytes.Equal(index, b[at+size:]) && u32(h[72:]) == s.sum(s.id, index), "index")
	r := &reader{index}
	for range r.uvarint() {
		r.uvarint()
	}
	catalog, count := r.uvarint(), r.uvarint()
	s.want(s.changes(r.take(catalog)) == count, "the catalog has not %d changes", count)
	live, leaves := uint64(0), uint64(0)
	for ; len(r.rest) > 0; leaves++ {
		low := r.take(r.uvarint())
		s.want(leaves > 0 || bytes.Equal(low, []byte{0, 0, 0, 1}), "the first leaf begins with %x", low)
		what := r.uvarint()
		s.runs += int(what / 2)
		for range what&1 + what/2 {
			file, at, size := number-r.uvarint(), r.uvarint(), r.uvarint()
			e := s.file(fmt.Sprintf("%016x.gen", file))[at : at+size]
			s.want(u32(e) == s.sum(s.id, le(file), le(at), e[4:]), "extent at %d of %d", at, file)
			in := &reader{e[4:]}
			count := in.uvarint()
			s.want(s.changes(in.rest) == count, "an extent has not %d changes", count)
			live += size
		}
	}
	s.want(leaves == u64(h[56:]) && live == u64(h[64:]), "%d leaves with %d bytes", leaves, live)
	return u64(h[24:])
}

// log replays what is behind a position, and returns how many records there are.
func (s *second) log(from uint64) (records int) {
	names, err := filepath.Glob(filepath.Join(s.dir, "*.redo"))
	s.want(err == nil, "%v", err)
	var used [][]byte
	for _, name := range names {
		b := s.file(filepath.Base(name))
		if string(b[:8]) != "WKPTREDO" {
			s.want(string(b[:8]) == "WKPTSPAR" && bytes.Equal(b[:56], b[2048:2104]) && u32(b[12:]) == s.sum(b[:12], b[16:56]), "the header of a spare one: %x", b[:56])
			s.want(filepath.Base(name) == fmt.Sprintf("%016x.redo", u64(b[16:])) && u64(b[40:])+4096 == uint64(len(b)), "the header of a spare one: %x", b[:56])
			continue
		}
		s.want(bytes.Equal(b[:56], b[2048:2104]) && u32(b[8:]) == 1 && u32(b[12:]) == s.sum(b[:12], b[16:56]), "header %x", b[:56])
		s.want(filepath.Base(name) == fmt.Sprintf("%016x.redo", u64(b[16:])) && u64(b[40:])+4096 == uint64(len(b)), "header %x", b[:56])
		used = append(used, b)
	}
	slices.SortFunc(used, func(a, b []byte) int { return cmp.Compare(u64(a[48:]), u64(b[48:])) })
	for i, b := range used {
		start, end := u64(b[24:]), ^uint64(0)
		if i+1 < len(used) {
			end = u64(used[i+1][24:])
		}
		for at := start; at < end; {
			f := b[4096+at-start:]
			n := uint64(0)
			if len(f) >= 32 && u64(f[8:]) == at {
				n = uint64(u32(f[4:]))
			}
			if len(f) < 32 || n > uint64(len(f)-32) || u64(f[8:]) != at || u32(f) != s.sum(b[32:40], f[4:32+n]) {
				break
			}
			s.want(f[24] == 1 || f[24] == 2 && bytes.Count(f[32:32+n], []byte{0}) == int(n), "frame of kind %d", f[24])
			if f[24] == 2 {
				at += (32 + n + 15) / 16 * 16
				continue
			}
			for r := (&reader{f[32 : 32+n]}); len(r.rest) > 0; {
				record := r.take(r.uvarint())
				if at+32+n-uint64(len(r.rest)) > from {
					s.want(record[0] == 1, "record of kind %d", record[0])
					s.changes(record[1:])
					records++
				}
			}
			at += (32 + n + 15) / 16 * 16
		}
	}
	return records
}

// tables is the state by the names of tables.
func (s *second) tables() map[string]map[string]string {
	out, names := map[string]map[string]string{}, map[uint32]string{}
	for k, v := range s.state {
		if binary.BigEndian.Uint32([]byte(k)) == 0 {
			var h map[int]any
			s.want(cbor.Unmarshal([]byte(v), &h) == nil && len(h) == 3, "the catalog has %x", v)
			names[uint32(h[1].(uint64))] = k[4:]
			out[k[4:]] = map[string]string{"codecs": fmt.Sprint(h[2], " ", h[3])}
		}
	}
	for k, v := range s.state {
		if id := binary.BigEndian.Uint32([]byte(k)); id != 0 {
			out[names[id]][k[4:]] = v
		}
	}
	return out
}

// TestFormat: who reads a directory by what doc/durable.md says finds what was
// put.
func TestFormat(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	words, numbers := durable.NewTable[string, string]("words"), durable.NewTable[int64, string]("numbers")
	db, _, err := durable.Open(ctx, durable.Options{Dir: dir}.WithSegments(1<<18), words, numbers)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]string{"words": {"codecs": "string string"}, "numbers": {"codecs": "int64 string"}}
	const rounds = 6
	for round := range rounds {
		err := db.Update(ctx, func(tx *durable.Tx) error {
			for i := round; i < 3000; i += 1 + round*97 { // all, and then ever fewer
				k, v := fmt.Sprintf("word%04d", i), strings.Repeat(fmt.Sprint(i, " "), 10+round)
				words.Put(tx, k, v)
				want["words"][k] = v
				numbers.Put(tx, int64(i-1500), v)
				want["numbers"][string(binary.BigEndian.AppendUint64(nil, uint64(i-1500)^1<<63))] = v
			}
			k := fmt.Sprintf("word%04d", 2000+round)
			words.Delete(tx, k)
			delete(want["words"], k)
			return nil
		})
		if err == nil && round < rounds-1 {
			err = db.Checkpoint(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	number := db.Generations()[0].Number
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := &second{t: t, dir: dir, state: map[string]string{}}
	s.identity()
	position := s.generation(number)
	if n := s.log(position); n != 1 || s.runs == 0 {
		t.Errorf("%d records behind position %d, and %d runs", n, position, s.runs)
	}
	got := s.tables()
	if !maps.EqualFunc(got, want, maps.Equal) {
		t.Errorf("%d words and %d numbers, not %d and %d", len(got["words"]), len(got["numbers"]), len(want["words"]), len(want["numbers"]))
	}
}
