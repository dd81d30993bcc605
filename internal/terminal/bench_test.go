package terminal

import (
	"bytes"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkPrint: how long a program needs to print 16 MiB when all is thrown
// away, and when a hub reads it and knows the screen; and the processor time
// of both sides together.
func BenchmarkPrint(b *testing.B) {
	const total = 16 << 20
	line := bytes.Repeat([]byte("The quick \x1b[1;32mbrown fox\x1b[m jumps over the lazy dog 0123456789\r\n"), 64)
	print := func(b *testing.B, slave *os.File) {
		b.SetBytes(total)
		before := processorTime(b)
		defer func() { b.ReportMetric(float64((processorTime(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op") }()
		for b.Loop() {
			for n := 0; n < total; n += len(line) {
				if _, err := slave.Write(line); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.Run("thrown away", func(b *testing.B) {
		master, slave := openPTY(b)
		go io.Copy(io.Discard, master)
		print(b, slave)
	})
	b.Run("hub", func(b *testing.B) {
		master, slave := openPTY(b)
		h, err := NewHub(master, Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer h.Close()
		print(b, slave)
	})
}

func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
