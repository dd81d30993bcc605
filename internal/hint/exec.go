package hint

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
)

// Caused gives an error that came from the keeper the cause by which a
// caller knows what a shell would have said.
func Caused(err error, code int) error {
	e := api.AsError(err)
	switch {
	case code == 127:
		return api.Errorf(api.Code(code), hintExec, "%s: %w", trimCause(e.Message, fs.ErrNotExist), fs.ErrNotExist)
	case code == 126 && strings.HasSuffix(e.Message, "exec format error"):
		return api.Errorf(api.Code(code), "it is no program of this machine; a script names its interpreter in a first line as #!/bin/sh", "%s", e.Message)
	case code == 126:
		return api.Errorf(api.Code(code), "look at its rights, and whether its file system is mounted with noexec", "%s: %w", trimCause(e.Message, fs.ErrPermission), fs.ErrPermission)
	}
	return err
}

// Exec gives an error of executing a command the exit code and the hint
// that it has when a launch meets it; any other stays as it is.
func Exec(err error) error {
	if code, ok := ExitCode(err); ok {
		return Caused(err, code)
	}
	return err
}

// hintExec is for a command that was there when it was looked for.
const hintExec = "if the file is there, the interpreter in its first line or its dynamic loader is not"

// trimCause drops the system's words for a cause that is said again.
func trimCause(message string, cause error) string {
	for _, words := range []string{"no such file or directory", "permission denied", cause.Error()} {
		message = strings.TrimSuffix(message, ": "+words)
	}
	return message
}

// ExitCode finds the error of executing a command, with its exit code as a
// shell gives it: 127 not found, 126 cannot be executed.
func ExitCode(err error) (code int, ok bool) {
	var e *engine.ExecError
	if !errors.As(err, &e) {
		return 0, false
	}
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, os.ErrNotExist) {
		return 127, true
	}
	return 126, true
}
