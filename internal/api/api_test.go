package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers one connection in dir with f.
func serve(t *testing.T, dir string, f func(net.Conn)) {
	t.Helper()
	path, release, err := Address(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		f(c)
	}()
	t.Cleanup(func() { l.Close(); release(); <-done })
}

func TestCall(t *testing.T) {
	for _, dir := range []string{t.TempDir(), t.TempDir() + "/" + strings.Repeat("long/", 40)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		serve(t, dir, func(c net.Conn) {
			var q Request
			if err := ReadLine(c, &q); err != nil || q.Op != OpCheckpoint || q.Tag != "t" {
				t.Errorf("%+v %v", q, err)
			}
			_ = WriteLine(c, Reply{Progress: "one"})
			_ = WriteLine(c, Reply{Done: true, Generation: &GenerationRow{Generation: "g7"}})
		})
		var heard []string
		r, err := Call(context.Background(), dir, Request{Op: OpCheckpoint, Tag: "t"}, func(r Reply) { heard = append(heard, r.Progress) })
		if err != nil || r.Generation == nil || r.Generation.Generation != "g7" {
			t.Errorf("%+v %v", r, err)
		}
		if d := cmp.Diff([]string{"one"}, heard); d != "" {
			t.Error(d)
		}
	}
}

func TestCallWithoutAKeeper(t *testing.T) {
	if _, err := Call(context.Background(), t.TempDir(), Request{}, nil); !errors.Is(err, ErrNoKeeper) {
		t.Error(err)
	}
	if _, err := Call(context.Background(), t.TempDir()+"/gone/"+strings.Repeat("long/", 40), Request{}, nil); !errors.Is(err, ErrNoKeeper) {
		t.Error(err)
	}
	dir := t.TempDir()
	l, err := net.Listen("unix", dir+"/"+SocketName)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if _, err := Call(context.Background(), dir, Request{}, nil); !errors.Is(err, ErrNoKeeper) {
		t.Errorf("a socket that was left behind: %v", err)
	}
}

func TestCallHearsErrors(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, func(c net.Conn) {
		var q Request
		_ = ReadLine(c, &q)
		_ = WriteLine(c, Reply{Done: true, Error: Errorf(CodeRefused, "do", "cannot")})
	})
	_, err := Call(context.Background(), dir, Request{}, nil)
	if e := AsError(err); e.Code != CodeRefused || e.Hint != "do" || e.Message != "cannot" {
		t.Errorf("%+v", e)
	}
}

func TestCallWhoseKeeperDies(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, func(c net.Conn) {
		var q Request
		_ = ReadLine(c, &q)
		_, _ = io.WriteString(c, `{"done"`)
	})
	if _, err := Call(context.Background(), dir, Request{}, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

func TestStreamReadsNothingOfWhatFollows(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, func(c net.Conn) {
		var q Request
		_ = ReadLine(c, &q)
		_, _ = io.WriteString(c, "{\"done\":true}\nthe stream")
	})
	c, _, err := Stream(context.Background(), dir, Request{Op: OpAttach}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if p, _ := io.ReadAll(c); string(p) != "the stream" {
		t.Errorf("%q", p)
	}
}

func TestAsError(t *testing.T) {
	e := Errorf(CodeNotFound, "hint", "no %q: %w", "web", fs.ErrNotExist)
	if !errors.Is(e, fs.ErrNotExist) {
		t.Error("the cause is lost")
	}
	w := AsError(fmt.Errorf("start: %w", e))
	if w.Code != CodeNotFound || w.Hint != "hint" || !strings.HasPrefix(w.Message, "start: no") || !errors.Is(w, fs.ErrNotExist) {
		t.Errorf("%+v", w)
	}
	if AsError(nil) != nil || AsError(io.EOF).Code != CodeFailed {
		t.Error("plain errors")
	}
}

func FuzzReadLine(f *testing.F) {
	f.Add([]byte("{\"op\":\"status\"}\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		var q Request
		r := bytes.NewReader(p)
		if err := ReadLine(r, &q); err != nil {
			return
		}
		if n := bytes.IndexByte(p, '\n'); r.Len() != len(p)-n-1 {
			t.Errorf("%d bytes are left of %q", r.Len(), p)
		}
	})
}
