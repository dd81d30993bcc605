package keeper

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	users "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
)

// A victim is a real server with a clock in its own state, which only its
// clients move, and the client that moves it. What spoils it lies in that state
// too, and goes wherever the state goes.
type victim interface {
	// tick moves the clock in one request, and returns where it stands.
	// errSilent: no answer yet; the next call waits for the same one.
	tick(d time.Duration) (time.Duration, error)
	// spoil makes the server fail when its clock will have moved so far.
	spoil(d time.Duration) error
	// hangUp ends the connection: the server has died.
	hangUp()
}

// errSilent says that a server has not answered yet.
var errSilent = errors.New("no answer yet")

// silence is how long an answer is waited for before anybody asks whether the
// server is well.
const silence = 50 * time.Millisecond

// prepared is a server that was not started yet.
type prepared struct {
	argv   []string
	env    []string
	data   []string // directories that are captured whole
	health string
	client victim
}

// breed is a kind of server, and what ends it.
type breed struct {
	name, end string
	prepare   func(tb testing.TB, dir, port string) prepared
}

// breeds are the servers that faults are injected into.
var breeds = []breed{
	{"redis", "memory that it cannot have: SIGABRT", prepareRedis},
	{"postgresql", "SIGSEGV in a backend: exit code 1", preparePostgres},
	{"node", "exception that nobody catches: exit code 1", func(tb testing.TB, dir, port string) prepared {
		return prepared{argv: []string{found(tb, "node"), victimFile(tb, dir, "jobs.js"), port}, client: &webVictim{port: port}}
	}},
	{"go", "lock that is never free: health check", func(tb testing.TB, dir, port string) prepared {
		return prepared{
			argv: []string{built(tb, dir, "go", "build", "-o", "OUT", "./testdata/faults/hang"), port}, env: []string{"GOMAXPROCS=1"},
			health: "http://127.0.0.1:" + port + "/health", client: &webVictim{port: port},
		}
	}},
	{"python, sqlite", "row that is no number: exit code 70", func(tb testing.TB, dir, port string) prepared {
		return prepared{
			argv: []string{found(tb, "/usr/bin/python3"), victimFile(tb, dir, "orders.py"), filepath.Join(dir, "orders.db"), port},
			data: []string{dir}, client: &webVictim{port: port},
		}
	}},
	{"c", "wild pointer in a list: SIGSEGV", func(tb testing.TB, dir, port string) prepared {
		return prepared{argv: []string{built(tb, dir, "gcc", "-O1", "-o", "OUT", "testdata/faults/wheel.c"), port}, client: &lineVictim{port: port}}
	}},
}

// found is the path of an installed program.
func found(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		tb.Skipf("skip: %s is not installed", name)
	}
	return path
}

// victimFile is a server's source, copied to where it does not change.
func victimFile(tb testing.TB, dir, name string) string {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/faults", name))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// built is a program that a command builds as OUT, once for a test.
func built(tb testing.TB, dir, name string, args ...string) string {
	tb.Helper()
	out := filepath.Join(filepath.Dir(dir), "built-"+name)
	if _, err := os.Stat(out); err == nil {
		return out
	}
	cmd := exec.Command(found(tb, name), strings.Split(strings.Replace(strings.Join(args, "\x00"), "OUT", out, 1), "\x00")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%v: %v\n%s", cmd, err, text)
	}
	return out
}

// freePort is a port below those that the kernel gives to clients.
func freePort(tb testing.TB) string {
	tb.Helper()
	for range 100 {
		port := strconv.Itoa(12000 + rand.IntN(18000))
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err == nil {
			l.Close()
			return port
		}
	}
	tb.Fatal("no free port")
	return ""
}

// listens waits until a server that was just started listens.
func listens(port string) error {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) {
			return err
		}
	}
}

func micros(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) }

// clockOf reads an answer that is the clock.
func clockOf(text string) (time.Duration, error) {
	us, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return time.Duration(us) * time.Microsecond, err
}

// webVictim is a client over HTTP.
type webVictim struct {
	port    string
	pending chan webAnswer // of the last request; nil: it was answered
}

type webAnswer struct {
	text string
	err  error
}

func (v *webVictim) ask(path string) (string, error) {
	answer, err := http.Get("http://127.0.0.1:" + v.port + path)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return string(text), err
}

func (v *webVictim) tick(d time.Duration) (time.Duration, error) {
	wait := time.Millisecond
	if v.pending == nil {
		wait = silence
		v.pending = make(chan webAnswer, 1)
		go func(to chan webAnswer) {
			text, err := v.ask("/tick?us=" + micros(d))
			to <- webAnswer{text, err}
		}(v.pending)
	}
	select {
	case a := <-v.pending:
		v.pending = nil
		if a.err != nil {
			return 0, a.err
		}
		return clockOf(a.text)
	case <-time.After(wait):
		return 0, errSilent
	}
}

func (v *webVictim) spoil(d time.Duration) error {
	_, err := v.ask("/spoil?us=" + micros(d))
	return err
}

func (v *webVictim) hangUp() {
	v.pending = nil
	http.DefaultClient.CloseIdleConnections()
}

// lineVictim is a client over TCP, line by line.
type lineVictim struct {
	port string
	conn net.Conn
	in   *bufio.Reader
}

func (v *lineVictim) ask(text string) (string, error) {
	if v.conn == nil {
		c, err := net.Dial("tcp", "127.0.0.1:"+v.port)
		if err != nil {
			return "", err
		}
		v.conn, v.in = c, bufio.NewReader(c)
	}
	if _, err := io.WriteString(v.conn, text); err != nil {
		return "", err
	}
	return v.in.ReadString('\n')
}

func (v *lineVictim) tick(d time.Duration) (time.Duration, error) {
	text, err := v.ask("tick " + micros(d) + "\n")
	if err != nil {
		return 0, err
	}
	return clockOf(text)
}

func (v *lineVictim) spoil(d time.Duration) error {
	_, err := v.ask("spoil " + micros(d) + "\n")
	return err
}

func (v *lineVictim) hangUp() {
	if v.conn != nil {
		v.conn.Close()
		v.conn = nil
	}
}

// redisTick moves the clock. What is due wants more memory than there is.
const redisTick = `local clock = redis.call('INCRBY', 'clock', ARGV[1])
local due = redis.call('GET', 'due')
if due and clock >= tonumber(due) then redis.call('SETRANGE', 'report', 500000000, 'x') end
redis.call('SET', 'seen:' .. clock % 997, clock)
return clock`

const redisSpoil = `return redis.call('SET', 'due', redis.call('INCRBY', 'clock', 0) + ARGV[1])`

func prepareRedis(tb testing.TB, dir, port string) prepared {
	return prepared{
		argv: []string{"sh", "-c", `ulimit -v 400000; exec "$@"`, "sh", found(tb, "redis-server"), "--port", port, "--bind", "127.0.0.1",
			"--dir", dir, "--save", "", "--appendonly", "no", "--crash-memcheck-enabled", "no"},
		client: &redisVictim{lineVictim{port: port}},
	}
}

// redisVictim speaks RESP2.
type redisVictim struct{ lineVictim }

func (v *redisVictim) eval(script string, d time.Duration) (string, error) {
	var text strings.Builder
	fmt.Fprint(&text, "*4\r\n")
	for _, w := range []string{"EVAL", script, "0", micros(d)} {
		fmt.Fprintf(&text, "$%d\r\n%s\r\n", len(w), w)
	}
	answer, err := v.ask(text.String())
	if err == nil && answer[0] == '-' {
		err = errors.New(answer)
	}
	return answer, err
}

func (v *redisVictim) tick(d time.Duration) (time.Duration, error) {
	answer, err := v.eval(redisTick, d)
	if err != nil {
		return 0, err
	}
	return clockOf(answer[1:])
}

func (v *redisVictim) spoil(d time.Duration) error {
	_, err := v.eval(redisSpoil, d)
	return err
}

// postgresSetUp makes a clock; what is due kills the backend that meets it.
const postgresSetUp = `CREATE TABLE clock (us bigint, due bigint);
INSERT INTO clock VALUES (0, NULL);
CREATE FUNCTION tick(step bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE now bigint; late bigint;
BEGIN
  UPDATE clock SET us = us + step RETURNING us, due INTO now, late;
  IF now >= late THEN COPY clock TO PROGRAM 'kill -SEGV $PPID'; END IF;
  RETURN now;
END $$;
`

func preparePostgres(tb testing.TB, dir, port string) prepared {
	tb.Helper()
	initdb, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	owner, uerr := users.Lookup("postgres")
	if err != nil || len(initdb) == 0 || uerr != nil {
		tb.Skip("skip: postgresql is not installed")
	}
	bin, data, cluster := filepath.Dir(initdb[len(initdb)-1]), filepath.Join(dir, "data"), filepath.Join(filepath.Dir(dir), "cluster")
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	as := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	if _, err := os.Stat(cluster); err != nil {
		if err := errors.Join(os.Mkdir(cluster, 0o700), os.Chown(cluster, uid, gid)); err != nil {
			tb.Fatal(err)
		}
		cmd := exec.Command(filepath.Join(bin, "initdb"), "-D", cluster, "-A", "trust", "-U", "postgres", "--no-locale", "--wal-segsize=1", "--no-sync")
		cmd.Dir, cmd.SysProcAttr = "/", as
		if out, err := cmd.CombinedOutput(); err != nil {
			tb.Fatalf("initdb: %v\n%s", err, out)
		}
	}
	if out, err := exec.Command("cp", "-a", cluster, data).CombinedOutput(); err != nil {
		tb.Fatalf("cp: %v\n%s", err, out)
	}
	return prepared{
		argv: []string{found(tb, "setpriv"), "--reuid=postgres", "--regid=postgres", "--init-groups", filepath.Join(bin, "postgres"), "-D", data, "-p", port,
			"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "shared_buffers=16MB", "-c", "fsync=off", "-c", "restart_after_crash=off"},
		data:   []string{data},
		client: &postgresVictim{psql: []string{filepath.Join(bin, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", port, "-U", "postgres"}},
	}
}

// postgresVictim is a session of psql.
type postgresVictim struct {
	psql  []string
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	said  strings.Builder // its complaints; read when it has ended
	setUp bool
}

func (v *postgresVictim) ask(sql string) (string, error) {
	if v.cmd == nil {
		if err := v.open(); err != nil {
			return "", err
		}
	}
	_, err := io.WriteString(v.in, sql)
	text := ""
	if err == nil {
		text, err = v.out.ReadString('\n')
	}
	if err != nil {
		err = fmt.Errorf("psql: %w: %v: %s", err, v.cmd.Wait(), v.said.String())
	}
	return text, err
}

// open begins a session; the first one makes what the others use.
func (v *postgresVictim) open() error {
	for end := time.Now().Add(30 * time.Second); !v.setUp; time.Sleep(20 * time.Millisecond) {
		cmd := exec.Command(v.psql[0], v.psql[1:]...)
		cmd.Stdin = strings.NewReader(postgresSetUp)
		out, err := cmd.CombinedOutput()
		if v.setUp = err == nil; err != nil && time.Now().After(end) {
			return fmt.Errorf("psql: %w: %s", err, out)
		}
	}
	cmd := exec.Command(v.psql[0], v.psql[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	v.said.Reset()
	cmd.Stderr = &v.said
	v.cmd, v.in, v.out = cmd, in, bufio.NewReader(out)
	return cmd.Start()
}

func (v *postgresVictim) tick(d time.Duration) (time.Duration, error) {
	answer, err := v.ask("SELECT tick(" + micros(d) + ");\n")
	if err != nil {
		return 0, err
	}
	return clockOf(answer)
}

func (v *postgresVictim) spoil(d time.Duration) error {
	_, err := v.ask("UPDATE clock SET due = us + " + micros(d) + " RETURNING due;\n")
	return err
}

func (v *postgresVictim) hangUp() {
	if v.cmd != nil {
		v.in.Close()
		_ = v.cmd.Process.Kill()
		_ = v.cmd.Wait()
		v.cmd = nil
	}
}

// spec is what a prepared server is launched as.
func (p prepared) spec(name, dir string) api.Spec {
	return api.Spec{Name: name, Argv: p.argv, Env: append(os.Environ(), p.env...), Dir: dir, Umask: 0o22}
}
