package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func (a *app) storeCommand() *cobra.Command {
	key := group("key", "The key that the store is sealed with", a.exportKeyCommand(), a.importKeyCommand())
	return group("store", "Care for the key of the store", key)
}

// group is a command that only holds others.
func group(name, short string, below ...*cobra.Command) *cobra.Command {
	var c *cobra.Command
	c = &cobra.Command{
		Use:   name,
		Short: short,
		Long:  short + ".",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(c, "there is no %s %s", name, args[0])
			}
			return usage(c, "a command is missing")
		},
	}
	c.AddCommand(below...)
	return c
}

func (a *app) exportKeyCommand() *cobra.Command {
	var to string
	var phrase bool
	var cmd *cobra.Command
	cmd = a.command(&cobra.Command{
		Use:   "export --to AGE-RECIPIENT | --passphrase",
		Short: "Print a recovery copy of the key",
		Long: `Print a recovery copy of the key, encrypted to an age recipient or with a
passphrase. Without the key nothing in the store can be read: keep the copy
where this machine is not.`,
		Example: `  wakepoint store key export --to age1... >key.age
  wakepoint store key export --passphrase >key.age`,
		Args: takes(0, 0),
	}, []int{7}, func(context.Context, []string) error {
		if (to == "") == !phrase {
			return usage(cmd, "--to or --passphrase is wanted")
		}
		site, err := a.site()
		if err != nil {
			return err
		}
		words := ""
		if phrase {
			if words, err = a.passphrase(true); err != nil {
				return err
			}
		}
		return site.ExportKey(a.out, to, words)
	})
	cmd.Flags().StringVar(&to, "to", "", "encrypt to an age `RECIPIENT`")
	cmd.Flags().BoolVar(&phrase, "passphrase", false, "encrypt with a passphrase, which is asked for, or read from the standard input")
	return cmd
}

func (a *app) importKeyCommand() *cobra.Command {
	var identity string
	var phrase bool
	var cmd *cobra.Command
	cmd = a.command(&cobra.Command{
		Use:   "import --identity FILE | --passphrase COPY",
		Short: "Bring the key back from a recovery copy",
		Long: `Bring the key back from a recovery copy. A key file that is there already, with
another key in it, is not replaced.`,
		Example: `  wakepoint store key import --identity ~/age.txt key.age
  wakepoint store key import --passphrase key.age`,
		Args: takes(1, 1),
	}, []int{7}, func(_ context.Context, args []string) error {
		if (identity == "") == !phrase {
			return usage(cmd, "--identity or --passphrase is wanted")
		}
		site, err := a.site()
		if err != nil {
			return err
		}
		file, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer file.Close()
		var by io.Reader
		words := "-" // of no use
		if phrase {
			words, err = a.passphrase(false)
		} else {
			var f *os.File
			if f, err = os.Open(identity); err == nil {
				defer f.Close()
				by = f
			}
		}
		if err != nil {
			return err
		}
		if err := site.ImportKey(file, by, words); err != nil {
			return err
		}
		a.say("the key is in %s", site.KeyFile)
		return nil
	})
	cmd.Flags().StringVar(&identity, "identity", "", "the age identity `FILE` to which it was exported")
	cmd.Flags().BoolVar(&phrase, "passphrase", false, "it was exported with a passphrase, which is asked for, or read from the standard input")
	return cmd
}

// passphrase asks for a passphrase where there is a terminal, twice for a new
// one, and else reads a line.
func (a *app) passphrase(twice bool) (string, error) {
	if !isTerminal(os.Stdin) {
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return "", errors.Join(errors.New("no passphrase was given"), eofIsNil(err))
		}
		return line, nil
	}
	ask := func(words string) (string, error) {
		fmt.Fprint(a.err, words)
		b, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(a.err)
		return string(b), err
	}
	words, err := ask("passphrase: ")
	if err != nil || !twice {
		return words, err
	}
	again, err := ask("once more: ")
	if err == nil && again != words {
		err = errors.New("the two are not the same")
	}
	return words, err
}

func eofIsNil(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
