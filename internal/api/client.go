package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// lineMax bounds a line of either direction.
const lineMax = 1 << 20

// pathMax is the longest path that fits into a socket's address (unix(7)).
const pathMax = 107

// ErrNoKeeper says that nobody listens.
var ErrNoKeeper = errors.New("no keeper")

// Address returns a path by which the socket in dir can be bound or reached,
// however long dir is. The path is valid until release is called.
func Address(dir string) (path string, release func(), err error) {
	path = filepath.Join(dir, SocketName)
	if len(path) <= pathMax {
		return path, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	path = "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + SocketName
	return path, func() { d.Close() }, nil
}

// Dial reaches the keeper of the workload in dir; ErrNoKeeper when there is
// none.
func Dial(ctx context.Context, dir string) (net.Conn, error) {
	path, release, err := Address(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNoKeeper
	}
	if err != nil {
		return nil, err
	}
	defer release()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNoKeeper
	}
	return conn, err
}

// Call sends one request and returns its last reply. Replies before it go to
// progress, which may be nil. An error that the keeper reports is an *Error;
// ErrNoKeeper says that there is no keeper, or none any more,
// io.ErrUnexpectedEOF that it died before it answered.
func Call(ctx context.Context, dir string, q Request, progress func(Reply)) (Reply, error) {
	conn, r, err := Stream(ctx, dir, q, progress)
	if conn != nil {
		conn.Close()
	}
	return r, err
}

// Stream is Call for a request after which the connection goes on as
// something else: it returns the connection, positioned behind the last
// reply. The caller closes it. On an error there is no connection.
func Stream(ctx context.Context, dir string, q Request, progress func(Reply)) (net.Conn, Reply, error) {
	conn, err := Dial(ctx, dir)
	if err != nil {
		return nil, Reply{}, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	r, err := exchange(conn, q, progress)
	if !stop() && err != nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, r, err
	}
	return conn, r, nil
}

// exchange speaks one request on conn.
func exchange(conn net.Conn, q Request, progress func(Reply)) (Reply, error) {
	q.Version = Version
	if err := WriteLine(conn, q); err != nil {
		return Reply{}, fmt.Errorf("ask the keeper: %w", err)
	}
	for {
		var r Reply
		if err := ReadLine(conn, &r); err != nil {
			return Reply{}, fmt.Errorf("hear the keeper: %w", err)
		}
		switch {
		case r.Left:
			return r, ErrNoKeeper
		case r.Error != nil:
			return r, r.Error
		case r.Done:
			return r, nil
		case progress != nil:
			progress(r)
		}
	}
}

// WriteLine writes v as one line of JSON.
func WriteLine(w io.Writer, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(p, '\n'))
	return err
}

// ReadLine reads one line of JSON into v, and not a byte more than the line.
// io.ErrUnexpectedEOF when there is no whole line.
func ReadLine(r io.Reader, v any) error {
	p, err := readLine(r)
	if err != nil {
		return err
	}
	return json.Unmarshal(p, v)
}

// readLine reads byte by byte, since what follows the line is not ours.
func readLine(r io.Reader) ([]byte, error) {
	var line bytes.Buffer
	b := make([]byte, 1)
	for line.Len() < lineMax {
		n, err := r.Read(b)
		if n == 1 {
			if b[0] == '\n' {
				return line.Bytes(), nil
			}
			line.WriteByte(b[0])
			continue
		}
		if err == io.EOF || errors.Is(err, syscall.ECONNRESET) {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("a line is longer than %d bytes", lineMax)
}
