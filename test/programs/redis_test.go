//go:build linux

package programs

import (
	"bufio"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// redisKeys is how many keys the first units make; later ones change them.
const redisKeys = 100_000

// redisBatch is how many units are sent at once.
const redisBatch = 100

// TestRedis has DEBUG DIGEST, the digest of the whole data set that redis
// itself computes, equal to that of a second server that was brought to the
// same unit and never saw a plug.
func TestRedis(t *testing.T) {
	r := newRig(t, "redis")
	bin := need(t, "redis-server", "redis-server")
	port, reference := freePort(t), freePort(t)
	arguments := func(port int, dir string) []string {
		return []string{
			bin, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir,
			"--save", "", "--appendonly", "no", "--enable-debug-command", "yes",
		}
	}
	sibling := exec.Command(bin, arguments(reference, r.top)[1:]...)
	if err := sibling.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sibling.Process.Kill(); sibling.Wait() })
	c := &redis{port: port, reference: &redis{port: reference}}
	r.endure(subject{
		options: fast, argv: arguments(port, r.dir), full: cyclesFull, client: c,
		prepare: func() error {
			for c.position < redisKeys {
				if _, err := c.step(); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

// redis speaks RESP2 to one server. Unit n sets a key, adds to a hash and to a
// sorted set, and sets "n", all in one transaction.
type redis struct {
	port      int
	conn      net.Conn
	in        *bufio.Reader
	position  uint64
	reached   atomic.Uint64
	reference *redis
}

func (c *redis) connect() error {
	if c.conn != nil {
		return nil
	}
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(c.port), 5*time.Second)
	if err != nil {
		return err
	}
	c.conn, c.in = conn, bufio.NewReader(conn)
	return nil
}

func (c *redis) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
	if c.reference != nil {
		c.reference.close()
	}
}

// encode appends a command.
func encode(b []byte, words ...string) []byte {
	b = fmt.Appendf(b, "*%d\r\n", len(words))
	for _, w := range words {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b
}

// answer reads one answer: of an array the elements, joined.
func (c *redis) answer() (string, error) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	if line == "" {
		return "", fmt.Errorf("empty answer")
	}
	n, _ := strconv.Atoi(line[1:])
	switch line[0] {
	case '+', ':':
		return line[1:], nil
	case '$':
		if n < 0 {
			return "", nil
		}
		text := make([]byte, n+2)
		for got := 0; got < len(text); {
			k, err := c.in.Read(text[got:])
			if err != nil {
				return "", err
			}
			got += k
		}
		return string(text[:n]), nil
	case '*':
		var parts []string
		for range n {
			part, err := c.answer()
			if err != nil {
				return "", err
			}
			parts = append(parts, part)
		}
		return strings.Join(parts, " "), nil
	}
	return "", fmt.Errorf("redis answers %q", line)
}

// do sends one command.
func (c *redis) do(words ...string) (string, error) {
	if err := c.connect(); err != nil {
		return "", err
	}
	c.conn.SetDeadline(time.Now().Add(patience / 2))
	if _, err := c.conn.Write(encode(nil, words...)); err != nil {
		return "", err
	}
	return c.answer()
}

// advance does the units up to last in one write.
func (c *redis) advance(last uint64) error {
	if err := c.connect(); err != nil {
		return err
	}
	c.conn.SetDeadline(time.Now().Add(patience / 2))
	var b []byte
	units := last - c.position
	for n := c.position + 1; n <= last; n++ {
		number := strconv.FormatUint(n, 10)
		b = encode(b, "MULTI")
		b = encode(b, "SET", fmt.Sprintf("key:%06d", n%redisKeys), strings.Repeat(number+".", int(n%13)+1))
		b = encode(b, "HINCRBY", fmt.Sprintf("hash:%d", n%997), fmt.Sprintf("field:%d", n%31), number)
		b = encode(b, "ZADD", "sorted", number, fmt.Sprintf("member:%d", n%4999))
		b = encode(b, "SET", "n", number)
		b = encode(b, "EXEC")
	}
	if _, err := c.conn.Write(b); err != nil {
		return err
	}
	for range units * 6 {
		if _, err := c.answer(); err != nil {
			return err
		}
	}
	c.position = last
	return nil
}

func (c *redis) step() (uint64, error) {
	last := c.position + redisBatch
	c.reached.Store(last)
	err := c.advance(last)
	return c.position, err
}

func (c *redis) sent() uint64 { return c.reached.Load() }

// state is the server's unit, and the digest of all its data.
func (c *redis) state() (n uint64, digest string, err error) {
	before, err := c.do("GET", "n")
	if err != nil {
		return 0, "", err
	}
	if digest, err = c.do("DEBUG", "DIGEST"); err != nil {
		return 0, "", err
	}
	after, err := c.do("GET", "n")
	if err != nil {
		return 0, "", err
	}
	if before != after {
		return 0, "", fmt.Errorf("still at work: %s, then %s", before, after)
	}
	if after == "" {
		return 0, digest, nil
	}
	n, err = strconv.ParseUint(after, 10, 64)
	return n, digest, err
}

func (c *redis) check() (uint64, error) {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
	n, digest, err := c.state()
	if err != nil {
		return 0, err
	}
	for c.reference.position < n {
		if err := c.reference.advance(min(n, c.reference.position+1000)); err != nil {
			return 0, fmt.Errorf("the server to compare with: %w", err)
		}
	}
	m, want, err := c.reference.state()
	if err != nil {
		return 0, fmt.Errorf("the server to compare with: %w", err)
	}
	if m != n || digest != want {
		return 0, fmt.Errorf("at unit %d the digest is %s; at %d it should be %s", n, digest, m, want)
	}
	c.position = n
	return n, nil
}

func (c *redis) rest() error {
	c.close()
	time.Sleep(1500 * time.Millisecond)
	return nil
}
