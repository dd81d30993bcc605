// Command testsum reads the events of "go test -json" on standard input and
// prints what a person wants of them: a line for each package, the output of
// what failed, every skip by name with its reason, and at the end one line
//
//	N passed, N failed, N skipped
//
// It exits with 1 when something failed, when nothing ran, and with -strict
// when a test skipped that the list of allowed skips does not name.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	allowedFile := flag.String("allowed", "", "`file` with the skips that are allowed")
	strict := flag.Bool("strict", false, "fail on a skip that is not allowed")
	summary := flag.String("summary", "", "write the closing line to this `file` too")
	flag.Parse()

	ok, err := run(*allowedFile, *strict, *summary)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

// run sums up standard input; ok is false when the tests are not in order.
func run(allowedFile string, strict bool, summary string) (ok bool, err error) {
	var list []allowed
	if allowedFile != "" {
		text, err := os.ReadFile(allowedFile)
		if err != nil {
			return false, err
		}
		if list, err = parseAllowed(string(text)); err != nil {
			return false, fmt.Errorf("%s: %w", allowedFile, err)
		}
	}
	s := newSum(os.Stdout)
	if err := s.read(os.Stdin); err != nil {
		return false, fmt.Errorf("read events: %w", err)
	}
	ok = s.close(list, strict)
	if summary != "" {
		return ok, os.WriteFile(summary, []byte(s.String()+"\n"), 0o644)
	}
	return ok, nil
}
