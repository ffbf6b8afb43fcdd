// Command myelin is a Matrix homeserver.
//
// `myelin serve` reads the settings, builds the parts of the server, joins them and runs them until it is told to stop.
// The other commands look after a server: they talk to the one that runs, over a socket in its data directory, or open
// its database themselves if none runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/myelin-chat/myelin/config"
)

func main() {
	syscall.Umask(0o077) // all that is written is for this user alone, whatever the mode of a data directory that was there
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	root := rootCommand(os.LookupEnv)
	if err := root.ExecuteContext(ctx); err != nil {
		report(os.Stderr, err)
		os.Exit(1)
	}
}

// report prints an error for the operator: mistakes in the settings one a line.
func report(w io.Writer, err error) {
	var problems config.Problems
	if !errors.As(err, &problems) {
		fmt.Fprintln(w, "myelin:", err)
		return
	}
	fmt.Fprintln(w, "myelin: the settings have mistakes (docs/config.md explains them):")
	for _, p := range problems {
		fmt.Fprintf(w, "  %s: %s\n", p.Key, p.Text)
	}
}

// rootCommand has all commands. The environment is passed in, so that tests have one of their own.
func rootCommand(env func(string) (string, bool)) *cobra.Command {
	root := &cobra.Command{
		Use:           "myelin",
		Short:         "A Matrix homeserver",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		serveCommand(env), configCommand(env), doctorCommand(env),
		adminCommand(env), backupCommand(env), restoreCommand(env), versionCommand(),
	)
	return root
}
