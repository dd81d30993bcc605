// Command chat is a chat over a UNIX socket. Whatever is killed, the server or a
// client, and whenever: no line is lost, none comes twice, and nobody logs in again.
//
//	chat -serve &
//	chat -name ann
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/durable/session"
)

const socket = "chat.socket"

func main() {
	serve := flag.Bool("serve", false, "be the server")
	name := flag.String("name", os.Getenv("USER"), "who you are")
	flag.Parse()
	run := func() error { return chat(context.Background(), *name) }
	if *serve {
		run = func() error { return server(context.Background()) }
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

// server keeps who is here, and owes everybody what anybody says.
func server(ctx context.Context) error {
	tables, here := session.NewTables(), durable.NewTable[uint64, string]("here")
	db, _, err := durable.Open(ctx, durable.Options{Dir: "chat.state"}, append(tables.All(), here)...)
	if err != nil {
		return err
	}
	key, err := session.KeyFile("chat.key")
	if err != nil {
		return err
	}
	var s *session.Server
	s, err = session.NewServer(db, session.Options{
		Tables: tables,
		Keys:   [][]byte{key},
		Login: func(_ context.Context, p session.Peer) (string, error) {
			log.Printf("%s logs in", p.Credentials) // here a password would be asked for
			return string(p.Credentials), nil
		},
		Handle: func(tx *durable.Tx, r *session.Request) ([]byte, error) {
			here.Put(tx, r.Session, r.Principal)
			if len(r.Body) == 0 {
				return nil, nil // somebody listens
			}
			for id := range here.All(tx) {
				if err := s.Send(tx, id, fmt.Appendf(nil, "%s: %s", r.Principal, r.Body)); err != nil {
					here.Delete(tx, id) // its session has expired, or it has been away for too long
				}
			}
			return nil, nil
		},
	})
	if err != nil {
		return err
	}
	_ = os.Remove(socket) // of a server that was killed
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	return s.Serve(l)
}

// chat says what is typed, and shows what is said, and what was said before. It keeps
// that by its numbers: what it had kept when it was killed, and not acknowledged, comes
// again, and is there.
func chat(ctx context.Context, name string) error {
	said := durable.NewTable[uint64, string]("said")
	db, _, err := durable.Open(ctx, durable.Options{Dir: "chat." + name + ".said"}, said)
	if err != nil {
		return err
	}
	defer db.Close()
	err = db.View(ctx, func(tx *durable.Tx) error {
		for _, line := range said.All(tx) {
			fmt.Println(line)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var d net.Dialer
	c, err := session.Dial(ctx, session.DialOptions{
		Dial:        func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) },
		Credentials: []byte(name),
		Dir:         "chat." + name,
	})
	if err != nil {
		return err
	}
	defer c.Close()
	failed := make(chan error, 1)
	go func() {
		for line, err := range c.Receive(ctx) {
			again := false
			if err == nil {
				err = db.Update(ctx, func(tx *durable.Tx) error {
					_, again = said.Get(tx, line.Number)
					said.Put(tx, line.Number, string(line.Body))
					return nil
				})
			}
			if err != nil {
				failed <- err
				return
			}
			if !again {
				fmt.Printf("%s\n", line.Body)
			}
		}
	}()
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for more := true; more; more = lines.Scan() {
			if _, err := c.Call(ctx, lines.Bytes()); err != nil {
				failed <- err
				return
			}
		}
		failed <- lines.Err()
	}()
	return <-failed
}
