package durable_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/durable/durabletest"
)

// remoteFS says that it lies on another machine.
type remoteFS struct {
	durable.FS
	kind string
}

func (r remoteFS) Remote(string) (string, error) { return r.kind, nil }

// volatileFS says that it lies in memory.
type volatileFS struct{ durable.FS }

func (volatileFS) Volatile(string) (bool, error) { return true, nil }

// TestWarns: who opens a database where the promises are not the kernel's is
// told, and can use it.
func TestWarns(t *testing.T) {
	for name, c := range map[string]struct {
		fs   durable.FS
		want string
	}{
		"remote":  {remoteFS{durabletest.NewDisk(), "NFS"}, "level=WARN msg=\"the directory lies on a file system of another machine or program"},
		"local":   {remoteFS{durabletest.NewDisk(), ""}, ""},
		"unknown": {durabletest.NewDisk(), ""},
		"memory":  {volatileFS{durabletest.NewDisk()}, "level=WARN msg=\"the directory lies in memory"},
	} {
		t.Run(name, func(t *testing.T) {
			var said bytes.Buffer
			db, _, err := durable.Open(context.Background(), durable.Options{Dir: "/db", FS: c.fs, Logger: slog.New(slog.NewTextHandler(&said, nil))})
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
			if got := said.String(); !strings.Contains(got, c.want) || c.want == "" && got != "" {
				t.Errorf("the log has %q", got)
			}
		})
	}
}
