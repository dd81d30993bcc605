//go:build linux

package programs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestPostgresRestored has the cluster's directory rolled back with its
// processes.
func TestPostgresRestored(t *testing.T) {
	r := newRig(t, "postgres")
	p := newPostgres(r)
	r.endure(subject{
		options: []string{"--every", "1s", "--on-crash", "restore", "--data", p.data},
		argv:    p.argv(r.shm),
		full:    cyclesFull, client: p, duringMax: 700 * time.Millisecond,
	})
}

// TestPostgresFresh takes the default for databases: started afresh on its own
// files, it has lost nothing that it had acknowledged.
func TestPostgresFresh(t *testing.T) {
	r := newRig(t, "postgres-fresh")
	p := newPostgres(r)
	r.endure(subject{
		options: []string{"--every", "1s"}, argv: p.argv(""),
		full: cyclesFull, client: p, fresh: true, duringMax: 700 * time.Millisecond,
		noCompare: "a server that is started afresh is another process",
	})
}

// postgres is the client of a cluster: one psql that commits numbered rows,
// beside pgbench, whose balances must agree at any time.
type postgres struct {
	r        *rig
	bin      string // the directory of its programs
	data     string
	port     int
	position uint64
	reached  atomic.Uint64
	psql     *exec.Cmd
	in       io.WriteCloser
	out      *bufio.Reader
	bench    *exec.Cmd
}

// newPostgres makes a cluster that belongs to the user postgres.
func newPostgres(r *rig) *postgres {
	r.t.Helper()
	initdb := needFile(r.t, "postgresql", "/usr/lib/postgresql/*/bin/initdb")
	need(r.t, "util-linux", "setpriv")
	owner, err := user.Lookup("postgres")
	if err != nil {
		r.t.Skip("skip: postgresql is not installed: no user postgres")
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	p := &postgres{r: r, bin: filepath.Dir(initdb), data: filepath.Join(r.dir, "data"), port: freePort(r.t)}
	for _, dir := range []string{r.dir, r.shm} {
		if err := os.Chown(dir, uid, gid); err != nil {
			r.t.Fatal(err)
		}
	}
	cmd := exec.Command(initdb, "-D", p.data, "-A", "trust", "-U", "postgres", "--no-locale", "-E", "UTF8")
	cmd.Dir = r.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("initdb: %v\n%s", err, out)
	}
	return p
}

// argv is the server as a process of its own user.
func (p *postgres) argv(sockets string) []string {
	return []string{
		"setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups",
		filepath.Join(p.bin, "postgres"), "-D", p.data, "-p", strconv.Itoa(p.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=" + sockets, "-c", "shared_buffers=16MB",
	}
}

// client prepares one of its client programs.
func (p *postgres) client(name string, args ...string) *exec.Cmd {
	at := []string{"-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-U", "postgres"}
	return exec.Command(filepath.Join(p.bin, name), append(at, args...)...)
}

// query asks one question in a session of its own.
func (p *postgres) query(sql string) (string, error) {
	out, err := p.client("psql", "-X", "-q", "-A", "-t", "-c", sql).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// connect starts the session that commits units, and pgbench beside it.
func (p *postgres) connect() error {
	if p.psql != nil {
		return nil
	}
	cmd := p.client("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.psql, p.in, p.out = cmd, in, bufio.NewReader(out)
	p.bench = p.client("pgbench", "-n", "-c", "3", "-T", "600", "postgres")
	return p.bench.Start()
}

func (p *postgres) step() (uint64, error) {
	if err := p.connect(); err != nil {
		return 0, err
	}
	n := p.position + 1
	p.reached.Store(n)
	if _, err := fmt.Fprintf(p.in, "INSERT INTO units VALUES (%d) RETURNING n;\n", n); err != nil {
		return 0, err
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("unit %d: %w", n, err)
	}
	if strings.TrimSpace(line) != strconv.FormatUint(n, 10) {
		return 0, fmt.Errorf("unit %d was answered by %q", n, line)
	}
	p.position = n
	return n, nil
}

func (p *postgres) sent() uint64 { return p.reached.Load() }

// hangUp ends psql and pgbench.
func (p *postgres) hangUp() {
	if p.psql != nil {
		p.in.Close()
		p.psql.Process.Kill()
		p.psql.Wait()
	}
	if p.bench != nil && p.bench.Process != nil {
		p.bench.Process.Kill()
		p.bench.Wait()
	}
	p.psql, p.bench = nil, nil
}

const balances = `SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)
AND (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(tbalance) FROM pgbench_tellers)
AND (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history),
(SELECT count(*) FROM units), (SELECT coalesce(max(n), 0) FROM units), (SELECT count(*) FROM pgbench_history)`

func (p *postgres) check() (uint64, error) {
	p.hangUp()
	if err := p.prepare(); err != nil {
		return 0, err
	}
	answer, err := p.query(balances)
	if err != nil {
		return 0, err
	}
	var agree string
	var count, highest, history uint64
	if _, err := fmt.Sscanf(strings.ReplaceAll(answer, "|", " "), "%s %d %d %d", &agree, &count, &highest, &history); err != nil {
		return 0, fmt.Errorf("balances %q: %w", answer, err)
	}
	if agree != "t" || count != highest {
		return 0, fmt.Errorf("balances agree: %s; %d units, the last is %d; %d transfers", agree, count, highest, history)
	}
	p.position = highest
	return highest, nil
}

// prepare makes the tables, once.
func (p *postgres) prepare() error {
	answer, err := p.query("SELECT to_regclass('units') IS NOT NULL")
	if err != nil || answer == "t" {
		return err
	}
	if out, err := p.client("pgbench", "-i", "-q", "postgres").CombinedOutput(); err != nil {
		return fmt.Errorf("pgbench -i: %w: %s", err, out)
	}
	_, err = p.query("CREATE TABLE units (n bigint PRIMARY KEY)")
	return err
}

func (p *postgres) rest() error {
	p.hangUp()
	deadline := time.Now().Add(patience / 2)
	for time.Now().Before(deadline) {
		others, err := p.query("SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('client backend', 'autovacuum worker') AND pid <> pg_backend_pid()")
		if err != nil {
			return err
		}
		if others == "0" {
			_, err := p.query("CHECKPOINT")
			time.Sleep(3 * time.Second)
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
	return errors.New("sessions of pgbench do not end")
}

func (p *postgres) close() { p.hangUp() }
