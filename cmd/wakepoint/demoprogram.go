package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"time"

	"github.com/spf13/cobra"
)

const demoName = "_demo"

// The demo's program counts a thousand times a second and keeps a table of its
// last counts in memory. What it knows of itself it publishes with every
// count, so that what was lost can be told from its own words.
const (
	demoTick  = time.Millisecond
	demoTable = 1 << 16 // entries of 16 bytes: 1 MiB
	demoGap   = 5 * time.Millisecond
	demoGaps  = 32
)

// demoPause is a time in which the program did not count, by the wall clock:
// it stood still for a checkpoint, or did not exist.
type demoPause struct {
	Count    int64 // before it
	From, To int64 // nanoseconds since 1970
}

// demoWords is what the program publishes.
type demoWords struct {
	Count  int64
	At     int64 // nanoseconds since 1970
	Wrong  int64 // entries of the table that were not what they should be
	Pauses [demoGaps]demoPause
}

// demoEntry is a row of the table.
type demoEntry struct{ count, mixed int64 }

func (a *app) demoProgramCommand() *cobra.Command {
	return inside(demoName, "The program of the demo", func(args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("one argument is needed: the file to publish in")
		}
		return demoProgram(args[0])
	})
}

func demoProgram(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	table := make([]demoEntry, demoTable)
	var w demoWords
	var pauses int
	w.At = time.Now().UnixNano()
	for range time.Tick(demoTick) {
		now := time.Now().UnixNano()
		if time.Duration(now-w.At) > demoGap {
			w.Pauses[pauses%demoGaps] = demoPause{Count: w.Count, From: w.At, To: now}
			pauses++
			w.Wrong += wrongEntries(table, w.Count)
		}
		w.Count, w.At = w.Count+1, now
		table[w.Count%demoTable] = demoEntry{w.Count, mix(w.Count)}
		if _, err := file.WriteAt(w.encode(), 0); err != nil {
			return err
		}
	}
	return nil
}

// wrongEntries compares the whole table with what it should hold after count.
func wrongEntries(table []demoEntry, count int64) (wrong int64) {
	for c := max(1, count-demoTable+1); c <= count; c++ {
		if table[c%demoTable] != (demoEntry{c, mix(c)}) {
			wrong++
		}
	}
	return wrong
}

// mix is the finalizer of MurmurHash3: any change of a bit shows.
func mix(n int64) int64 {
	x := uint64(n)
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return int64(x ^ x>>33)
}

// encode is the words in little endian, in the order of their fields, and
// their CRC-32 (IEEE): a reader that comes in the middle of a write knows.
func (w *demoWords) encode() []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, w) // a buffer takes everything
	return binary.LittleEndian.AppendUint32(b.Bytes(), crc32.ChecksumIEEE(b.Bytes()))
}

func decodeDemoWords(p []byte) (demoWords, error) {
	var w demoWords
	size := binary.Size(w)
	if len(p) != size+4 || binary.LittleEndian.Uint32(p[size:]) != crc32.ChecksumIEEE(p[:size]) {
		return w, fmt.Errorf("the demo's program has published %d bytes that are no words of it", len(p))
	}
	_, err := binary.Decode(p, binary.LittleEndian, &w)
	return w, err
}

// readDemoWords reads what the program published last.
func readDemoWords(path string) (demoWords, error) {
	var err error
	for range 100 {
		var p []byte
		var w demoWords
		if p, err = os.ReadFile(path); err == nil {
			if w, err = decodeDemoWords(p); err == nil {
				return w, nil
			}
		}
		time.Sleep(demoTick)
	}
	return demoWords{}, err
}

// across returns the pause that an instant lies in.
func (w *demoWords) across(instant time.Time) (demoPause, bool) {
	at := instant.UnixNano()
	for _, p := range w.Pauses {
		if p.From <= at && at < p.To {
			return p, true
		}
	}
	return demoPause{}, false
}
