//go:build linux

package programs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const nginxConfig = `
worker_processes 2;
daemon off;
pid DIR/nginx.pid;
error_log DIR/error.log info;
events { worker_connections 64; }
http {
	access_log off;
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	log_format unit '$request_uri';
	server {
		listen 127.0.0.1:PORT reuseport;
		root DIR/www;
		sendfile on;
		location /unit/ { access_log DIR/access.log unit; return 200 "$pid\n"; }
		location = /status { stub_status; }
	}
}
`

// TestNginx counts by two things that must agree: the counter of requests in
// memory that the workers share, and the access log, which is rolled back with
// them.
func TestNginx(t *testing.T) {
	r := newRig(t, "nginx")
	bin, port := need(t, "nginx", "nginx"), freePort(t)
	c := &nginx{r: r, base: "http://127.0.0.1:" + strconv.Itoa(port), file: make([]byte, 300_000)}
	for i := range c.file {
		c.file[i] = byte(rand.IntN(256))
	}
	c.http = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}}
	config := strings.NewReplacer("DIR", r.dir, "PORT", strconv.Itoa(port)).Replace(nginxConfig)
	if err := os.Mkdir(filepath.Join(r.dir, "www"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"nginx.conf": []byte(config), "www/file": c.file} {
		if err := os.WriteFile(filepath.Join(r.dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r.endure(subject{
		options: fast, argv: []string{bin, "-c", filepath.Join(r.dir, "nginx.conf"), "-p", r.dir},
		full: cyclesFull, client: c, prepare: c.meet,
	})
}

// nginx asks for one unit after the other; every unit is a line of the log.
type nginx struct {
	r        *rig
	base     string
	http     *http.Client
	file     []byte
	position uint64
	reached  atomic.Uint64
	others   uint64 // requests that are no units, as the counter should have them
	workers  []string
}

func (c *nginx) get(path string) (string, error) {
	response, err := c.http.Get(c.base + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return string(text), err
}

func (c *nginx) step() (uint64, error) {
	n := c.position + 1
	c.reached.Store(n)
	if _, err := c.get("/unit/" + strconv.FormatUint(n, 10)); err != nil {
		return 0, err
	}
	c.position = n
	return n, nil
}

func (c *nginx) sent() uint64 { return c.reached.Load() }

// meet learns which workers there are.
func (c *nginx) meet() error {
	seen := map[string]bool{}
	for range 60 {
		pid, err := c.get("/unit/" + strconv.FormatUint(c.position+1, 10))
		if err != nil {
			return err
		}
		c.position++
		c.reached.Store(c.position)
		seen[pid] = true
	}
	now := slices.Sorted(maps.Keys(seen))
	if c.workers == nil {
		c.workers = now
	}
	if len(now) != 2 || !slices.Equal(now, c.workers) {
		return fmt.Errorf("the workers %q answer; they were %q", now, c.workers)
	}
	return nil
}

// logged is the number of units in the log, once it stands still: each exactly
// once. A worker writes a unit down after it has answered, and may lose the
// processor in between to the other, which then writes down those that follow:
// on a busy machine four and more of them, so that their order says nothing.
func (c *nginx) logged() (uint64, error) {
	path := filepath.Join(c.r.dir, "access.log")
	early, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	time.Sleep(200 * time.Millisecond)
	text, err := os.ReadFile(path)
	if err != nil || len(text) != len(early) {
		return 0, fmt.Errorf("the access log still grows: %v", err)
	}
	var units []uint64
	for line := range strings.Lines(string(text)) {
		var n uint64
		if _, err := fmt.Sscanf(line, "/unit/%d\n", &n); err != nil {
			return 0, fmt.Errorf("line %q of the access log: %w", line, err)
		}
		units = append(units, n)
	}
	slices.Sort(units)
	for i, n := range units {
		if n != uint64(i)+1 {
			return 0, fmt.Errorf("the access log holds unit %d where %d belongs", n, i+1)
		}
	}
	return uint64(len(units)), nil
}

func (c *nginx) check() (uint64, error) {
	file, err := c.get("/file")
	if err != nil {
		return 0, err
	}
	if file != string(c.file) {
		return 0, fmt.Errorf("the file it serves has %d bytes and is not the file", len(file))
	}
	status, err := c.get("/status")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(status) // Active connections: 1 server accepts handled requests 1 2 3 Reading: ...
	if len(fields) < 10 {
		return 0, fmt.Errorf("status %q", status)
	}
	requests, err := strconv.ParseUint(fields[9], 10, 64)
	if err != nil {
		return 0, err
	}
	n, err := c.logged()
	if err != nil {
		return 0, err
	}
	// The requests that are no units are those of earlier checks and these two.
	// One that was being served may be counted and not be logged.
	others := requests - n
	if c.workers != nil && (others < c.others || others > c.others+8) {
		return 0, fmt.Errorf("%d requests, %d of them logged: %d others, about %d expected", requests, n, others, c.others)
	}
	c.others = others
	c.position = n
	if c.workers != nil {
		if err := c.meet(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func (c *nginx) rest() error {
	c.http.CloseIdleConnections()
	time.Sleep(1500 * time.Millisecond)
	return nil
}

func (c *nginx) close() { c.http.CloseIdleConnections() }
