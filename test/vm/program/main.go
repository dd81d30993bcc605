//go:build linux

// Command program is what is protected in a machine whose power is cut, and
// what looks whether that worked.
//
//	program work DIR MIB   count, two hundred times a second, with so much memory
//	program look DIR       print the count and how much of what it knows is wrong
//	program frozen         print the processes that stand still for good
//	program occupy PID...  take these process numbers until the end
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "program:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "work":
		mib, err := strconv.ParseUint(args[2], 10, 16)
		if err != nil || mib == 0 {
			return fmt.Errorf("%q is no number of MiB", args[2])
		}
		return work(args[1], mib<<20/pageSize)
	case len(args) == 2 && args[0] == "look":
		return look(args[1])
	case len(args) == 1 && args[0] == "frozen":
		return frozen()
	case len(args) > 1 && args[0] == "occupy":
		return occupy(args[1:])
	}
	return fmt.Errorf("unknown arguments %q", args)
}

func look(dir string) error {
	f, err := os.Open(filepath.Join(dir, wordsName))
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := readWords(f)
	for n := 0; err != nil && n < 50; n++ { // it may be in the middle of a word
		time.Sleep(10 * time.Millisecond)
		w, err = readWords(f)
	}
	if err != nil {
		return err
	}
	fmt.Println(w.count, w.wrong)
	return nil
}

// frozen prints who stands still in every one of some looks: in the middle of
// a checkpoint a program does so for a moment.
func frozen() error {
	const looks, rest = 8, 150 * time.Millisecond
	still, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*/stat")
	if err != nil {
		return err
	}
	for range looks {
		still = slices.DeleteFunc(still, func(name string) bool { return !stopped(name) })
		if len(still) == 0 {
			return nil
		}
		time.Sleep(rest)
	}
	for _, name := range still {
		fmt.Println(name)
	}
	return nil
}

// stopped says of a thread whether it is in the state t or T.
func stopped(stat string) bool {
	text, err := os.ReadFile(stat)
	if err != nil {
		return false // it has ended
	}
	_, after, _ := strings.Cut(string(text), ") ")
	return after != "" && strings.ContainsRune("tT", rune(after[0]))
}

// occupy gives the process numbers to sleepers, as far as they are free, and
// prints those that somebody has then.
func occupy(args []string) error {
	// The first command that is started tries something out, and takes a number.
	if err := exec.Command("/bin/sleep", "0").Run(); err != nil {
		return err
	}
	var taken []string
	for _, arg := range args {
		pid, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
			return err
		}
		if err := exec.Command("/bin/sleep", "10000").Start(); err != nil {
			return err
		}
		if _, err := os.Stat("/proc/" + arg); err == nil {
			taken = append(taken, arg)
		}
	}
	fmt.Println(strings.Join(taken, " "))
	return nil
}
