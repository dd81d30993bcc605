package session_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/durable/session"
)

// An account whose requests count once each, also when the server ends in between and
// begins again with what is on the disk.
func Example() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(dir)
	accounts := durable.NewTable[string, uint64]("accounts")
	key := make([]byte, session.KeySize) // session.KeyFile makes a real one

	begin := func() (end func()) {
		tables := session.NewTables()
		db, _, err := durable.Open(ctx, durable.Options{Dir: filepath.Join(dir, "db")}, append(tables.All(), accounts)...)
		if err != nil {
			panic(err)
		}
		server, err := session.NewServer(db, session.Options{
			Tables: tables,
			Keys:   [][]byte{key},
			Login: func(_ context.Context, p session.Peer) (string, error) {
				return string(p.Credentials), nil // whoever says so: a real one asks for more
			},
			Handle: func(tx *durable.Tx, r *session.Request) ([]byte, error) {
				n, _ := accounts.Get(tx, r.Principal)
				accounts.Put(tx, r.Principal, n+uint64(r.Body[0]))
				return binary.BigEndian.AppendUint64(nil, n+uint64(r.Body[0])), nil
			},
		})
		if err != nil {
			panic(err)
		}
		l, err := net.Listen("unix", filepath.Join(dir, "socket"))
		if err != nil {
			panic(err)
		}
		go func() { _ = server.Serve(l) }()
		return func() { _ = server.Close(); _ = db.Close() }
	}
	end := begin()

	client, err := session.Dial(ctx, session.DialOptions{
		Credentials: []byte("ann"),
		Dial: func(context.Context) (net.Conn, error) {
			return net.Dial("unix", filepath.Join(dir, "socket"))
		},
	})
	if err != nil {
		panic(err)
	}
	for range 2 {
		reply, err := client.Call(ctx, []byte{5})
		fmt.Println(binary.BigEndian.Uint64(reply), err)
		end()
		end = begin()
	}
	_ = client.Close()
	end()
	// Output:
	// 5 <nil>
	// 10 <nil>
}
