// Package session keeps the logical connections of a server whose state is in
// package durable: a client's session outlives the connection, the server and,
// if it is wanted, the client.
//
// A request is done once, however often it is sent: its reply is kept in the
// transaction that holds its effect, and whoever asks again after a crash of
// either end gets that reply.
//
//	tables := session.NewTables()
//	db, _, err := durable.Open(ctx, options, append(tables.All(), accounts)...)
//	...
//	server, err := session.NewServer(db, session.Options{
//		Tables: tables, Keys: [][]byte{key}, Login: login,
//		Handle: func(tx *durable.Tx, r *session.Request) ([]byte, error) {
//			n, _ := accounts.Get(tx, r.Principal)
//			accounts.Put(tx, r.Principal, n+1)
//			return strconv.AppendInt(nil, n+1, 10), nil
//		},
//	})
//	go server.Serve(listener)
//
// and at the other end:
//
//	client, err := session.Dial(ctx, session.DialOptions{Dial: dial, Credentials: password})
//	...
//	reply, err := client.Call(ctx, request)
//
// Who a client is the server's Login says once, when the session begins. To go on
// with it both ends prove that they know its secret, which the server keeps
// sealed, and over TLS that nobody stands between them. Without TLS what is said
// can be read and changed by whoever is on the way, the secret included: use it
// for UNIX sockets.
package session
