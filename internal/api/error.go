package api

import (
	"errors"
	"fmt"
)

// Code is the exit code of the command that meets an error.
type Code int

// The exit codes.
const (
	CodeFailed    Code = 1  // failed
	CodeUsage     Code = 2  // wrong arguments
	CodeSome      Code = 3  // some of several failed
	CodeNotFound  Code = 4  // no such workload or generation
	CodeRefused   Code = 6  // cannot be checkpointed
	CodeIntegrity Code = 7  // damaged
	CodeOlder     Code = 9  // restored, but an older generation than the newest
	CodeLocked    Code = 11 // locked by another keeper
)

// Error is an error that a person can act on: what happened to what, and what
// to do next. It travels between a keeper and its callers.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`

	cause error
}

// Errorf makes an Error. An error given with %w stays reachable on this side
// of the socket.
func Errorf(code Code, hint, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Hint: hint, cause: errors.Unwrap(err)}
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns what caused the error, nil if it came over a socket.
func (e *Error) Unwrap() error { return e.cause }

// AsError finds the Error in err. An error that holds none becomes one of
// code 1; nil stays nil. Words that were wrapped around an Error are kept.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		return &Error{Code: CodeFailed, Message: err.Error(), cause: err}
	}
	if e.Message == err.Error() {
		return e
	}
	return &Error{Code: e.Code, Message: err.Error(), Hint: e.Hint, cause: err}
}
