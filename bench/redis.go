package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// redis is Debian's server in a process of its own, with a connection for each
// writer, over a UNIX socket.
type redis struct {
	server *exec.Cmd
	socket string
	idle   chan *redisConn
}

// redisMissing says why there is no server to start.
func redisMissing() error {
	_, err := exec.LookPath("redis-server")
	return err
}

func openRedis(dir string, writers int) (engine, error) {
	sockets, err := os.MkdirTemp("", "bench-redis-") // a path that is short enough
	if err != nil {
		return nil, err
	}
	r := &redis{socket: filepath.Join(sockets, "s"), idle: make(chan *redisConn, max(writers, 1))}
	r.server = exec.Command("redis-server", "--port", "0", "--unixsocket", r.socket, "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0", "--logfile", "redis.log")
	r.server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.server.Start(); err != nil {
		return nil, err
	}
	for range cap(r.idle) {
		c, err := r.dial()
		if err != nil {
			return nil, errors.Join(err, r.Kill())
		}
		r.idle <- c
	}
	return r, nil
}

// dial waits until the server is there, and has loaded what it has.
func (r *redis) dial() (*redisConn, error) {
	for until := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Millisecond) {
		if c, err := net.Dial("unix", r.socket); err == nil {
			rc := &redisConn{c: c, r: bufio.NewReaderSize(c, 1<<16)}
			for {
				if _, err = rc.do("PING"); err == nil || !strings.HasPrefix(err.Error(), "LOADING") {
					return rc, err
				}
				time.Sleep(time.Millisecond)
			}
		} else if time.Now().After(until) {
			return nil, fmt.Errorf("redis-server: %w", err)
		}
	}
}

// do uses one of the connections.
func (r *redis) do(args ...string) ([]byte, error) {
	c := <-r.idle
	defer func() { r.idle <- c }()
	return c.do(args...)
}

func (r *redis) Put(key string, value []byte) error {
	_, err := r.do("SET", key, string(value))
	return err
}

func (r *redis) Get(key string) ([]byte, error) { return r.do("GET", key) }

func (r *redis) Load(pairs iter.Seq2[string, []byte]) error {
	c := <-r.idle
	defer func() { r.idle <- c }()
	for list := range batches(pairs, 10_000) {
		args := make([]string, 0, 2*len(list)+1)
		args = append(args, "MSET")
		for _, p := range list {
			args = append(args, p.key, string(p.value))
		}
		if _, err := c.do(args...); err != nil {
			return err
		}
	}
	return nil
}

// Scan: the server answers only when all is in memory.
func (r *redis) Scan() (int, error) {
	b, err := r.do("DBSIZE")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(b))
}

// Checkpoint rewrites the log, in a fork.
func (r *redis) Checkpoint() error {
	if _, err := r.do("BGREWRITEAOF"); err != nil {
		return err
	}
	for {
		info, err := r.do("INFO", "persistence")
		if err != nil {
			return err
		}
		if bytes.Contains(info, []byte("aof_rewrite_in_progress:0")) && bytes.Contains(info, []byte("aof_rewrite_scheduled:0")) {
			if !bytes.Contains(info, []byte("aof_last_bgrewrite_status:ok")) {
				return errors.New("the log could not be rewritten")
			}
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (r *redis) PID() int { return r.server.Process.Pid }

func (r *redis) Kill() error {
	err := r.server.Process.Kill()
	_ = r.server.Wait() // says that it was killed
	return errors.Join(err, os.RemoveAll(filepath.Dir(r.socket)))
}

func (r *redis) Close() error {
	for range cap(r.idle) {
		_ = (<-r.idle).c.Close()
	}
	err := r.server.Process.Signal(syscall.SIGTERM)
	_ = r.server.Wait()
	return errors.Join(err, os.RemoveAll(filepath.Dir(r.socket)))
}

// redisConn speaks RESP, version 2.
type redisConn struct {
	c   net.Conn
	r   *bufio.Reader
	out []byte
}

func (c *redisConn) do(args ...string) ([]byte, error) {
	c.out = append(strconv.AppendInt(append(c.out[:0], '*'), int64(len(args)), 10), "\r\n"...)
	for _, a := range args {
		c.out = append(strconv.AppendInt(append(c.out, '$'), int64(len(a)), 10), "\r\n"...)
		c.out = append(append(c.out, a...), "\r\n"...)
	}
	if _, err := c.c.Write(c.out); err != nil {
		return nil, err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	kind, line := line[0], bytes.TrimRight(line[1:], "\r\n")
	switch kind {
	case '-':
		return nil, errors.New(string(line))
	case '$':
		n, err := strconv.Atoi(string(line))
		if err != nil || n < 0 {
			return nil, err
		}
		b := make([]byte, n+2)
		_, err = io.ReadFull(c.r, b)
		return b[:n], err
	}
	return append([]byte(nil), line...), nil
}
