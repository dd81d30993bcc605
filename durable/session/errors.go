package session

import (
	"errors"
	"fmt"
)

var (
	// ErrUnknown says that a context ended before the reply came: the request may
	// be done, now or later.
	ErrUnknown = errors.New("session: outcome unknown")
	// ErrExpired says that the session was not used for so long that the server
	// forgot it, or was ended. It does not come back; a new one can be begun.
	ErrExpired = errors.New("session: expired")
	// ErrNoSession says that the server knows of no such session.
	ErrNoSession = errors.New("session: unknown to the server")
	// ErrReplaced says that another connection has gone on with the session.
	ErrReplaced = errors.New("session: resumed elsewhere")
	// ErrDenied says that the principal may not do that, or was revoked.
	ErrDenied = errors.New("session: denied")
	// ErrStale says that a request comes too late: its reply was acknowledged.
	ErrStale = errors.New("session: request was acknowledged before")
	// ErrReused says that a number was used for another request before.
	ErrReused = errors.New("session: number of another request")
	// ErrProtocol says that the other end does not keep to the protocol.
	ErrProtocol = errors.New("session: protocol violated")
	// ErrVersion says that the other end is newer.
	ErrVersion = errors.New("session: newer protocol")
	// ErrWrongServer says that a server could not prove that it knows the session.
	ErrWrongServer = errors.New("session: wrong server")
	// ErrTooLarge says that a request or a reply has no room in a frame.
	ErrTooLarge = errors.New("session: too large")
	// ErrOwed says that a session has OwedMax deliveries that did not come.
	ErrOwed = errors.New("session: too much is owed")
	// ErrRolledBack says that the server came back without requests whose replies the
	// client has: see RolledBackError.
	ErrRolledBack = errors.New("session: server was rolled back")
	// ErrClosed says that the client or the server was closed.
	ErrClosed = errors.New("session: closed")
)

// errBehind says that the server never had a session with such a number, and will.
var errBehind = fmt.Errorf("%w: %w", ErrRolledBack, ErrNoSession)

// A RemoteError is what the server's handler returned. Nothing was changed.
type RemoteError struct{ Text string }

func (e *RemoteError) Error() string { return e.Text }

// code says in a frame what became of something. The numbers are a part of the
// protocol.
type code uint64

const (
	codeOK       code = 0
	codeFailed   code = 1 // by the handler, which says why
	codeDenied   code = 2
	codeStale    code = 3
	codeReused   code = 4
	codeTooLarge code = 5
	codeExpired  code = 6
	codeUnknown  code = 7 // no such session
	codeBehind   code = 8 // no such session yet: the server was rolled back
	codeReplaced code = 9
	codeProtocol code = 10
	codeVersion  code = 11
	codeClosing  code = 12 // come again
	codeMost          = codeClosing
)

// sentinels are the errors that have a code.
func (c code) sentinel() error {
	switch c {
	case codeDenied:
		return ErrDenied
	case codeStale:
		return ErrStale
	case codeReused:
		return ErrReused
	case codeTooLarge:
		return ErrTooLarge
	case codeExpired:
		return ErrExpired
	case codeUnknown:
		return ErrNoSession
	case codeBehind:
		return errBehind
	case codeReplaced:
		return ErrReplaced
	case codeProtocol:
		return ErrProtocol
	case codeVersion:
		return ErrVersion
	}
	return ErrClosed
}

// error is what a code and its text mean for a caller.
func (c code) error(text []byte) error {
	switch {
	case c == codeOK:
		return nil
	case c == codeFailed:
		return &RemoteError{string(text)}
	case len(text) == 0:
		return c.sentinel()
	}
	return fmt.Errorf("%w: %s", c.sentinel(), text)
}

// codeOf is the code of what a request is refused for. Any other error is told by its
// text: one that a handler has of another session says nothing of this one.
func codeOf(err error) (code, []byte) {
	for _, c := range []code{codeDenied, codeTooLarge} {
		if errors.Is(err, c.sentinel()) {
			return c, nil
		}
	}
	return codeFailed, []byte(err.Error())
}
