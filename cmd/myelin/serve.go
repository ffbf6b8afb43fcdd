package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/myelin-chat/myelin/config"
)

// serveCommand keeps apart what is said to a person, on standard output, and the log, on standard error.
func serveCommand(env func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Args:  cobra.NoArgs,
	}
	s := addSettings(cmd, env)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := s.load()
		if err != nil {
			return err
		}
		return serve(cmd.Context(), c, output{talk: cmd.OutOrStdout(), log: cmd.ErrOrStderr()})
	}
	return cmd
}

// output is where a server writes to.
type output struct{ talk, log io.Writer }

// serve runs a server until ctx ends.
func serve(ctx context.Context, c config.Config, out output) error {
	log := newLog(out.log, c.Log)
	for _, key := range withoutEffect(c) {
		log.Warn("this setting has no effect yet", "key", key)
	}
	p, err := build(ctx, c, log)
	if err != nil {
		return err
	}
	defer p.close()
	// What to do next depends on whether there is an account.
	inhabited, err := p.inhabited(ctx)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprint(out.talk, welcome(c, inhabited)); err != nil {
		return err
	}
	return p.run(ctx)
}
