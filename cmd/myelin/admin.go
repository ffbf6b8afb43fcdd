package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/myelin-chat/myelin/config"
)

const maxPasswordBytes = 4 << 10 // read from standard input

// adminCommand groups what an operator does to accounts. Each of these works the same beside a running server, which
// then does it, so that its caches know of it at once.
func adminCommand(env func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "admin", Short: "Look after accounts, beside a running server or without one"}
	cmd.AddCommand(createUserCommand(env), resetPasswordCommand(env), createTokenCommand(env))
	return cmd
}

// createUserCommand makes accounts however registration is set: the first one has to come from somewhere.
func createUserCommand(env func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create-user NAME",
		Short: "Make an account",
		Long:  "Make an account. Without --password-stdin a password is made up and printed.",
		Args:  cobra.ExactArgs(1),
	}
	admin := cmd.Flags().Bool("admin", false, "The account may administer the server.")
	password := addPassword(cmd)
	s := addSettings(cmd, env)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		secret, show, err := password(cmd.InOrStdin())
		if err != nil {
			return err
		}
		return s.withControls(cmd.Context(), func(ctx context.Context, c controls) error {
			user, err := c.CreateUser(ctx, createUser{Username: args[0], Password: secret, Admin: *admin})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "made %s\n%s", user, show)
			return err
		})
	}
	return cmd
}

// resetPasswordCommand logs the account's devices out unless told not to, since a password is most often reset because
// somebody else knows it.
func resetPasswordCommand(env func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset-password NAME",
		Short: "Give an account a new password",
		Long:  "Give an account a new password. Without --password-stdin one is made up and printed.",
		Args:  cobra.ExactArgs(1),
	}
	keep := cmd.Flags().Bool("keep-devices", false, "Do not log the account's devices out.")
	password := addPassword(cmd)
	s := addSettings(cmd, env)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		secret, show, err := password(cmd.InOrStdin())
		if err != nil {
			return err
		}
		return s.withControls(cmd.Context(), func(ctx context.Context, c controls) error {
			err := c.ResetPassword(ctx, resetPassword{User: args[0], Password: secret, LogoutDevices: !*keep})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the password of %s is changed\n%s", args[0], show)
			return err
		})
	}
	return cmd
}

// createTokenCommand prints the token alone, so that a script can take it.
func createTokenCommand(env func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create-token",
		Short: "Make a registration token, with which people make accounts where registration is set to token",
		Args:  cobra.NoArgs,
	}
	uses := cmd.Flags().Int64("uses", 0, "How many accounts can be made with it; 0 for no limit.")
	s := addSettings(cmd, env)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return s.withControls(cmd.Context(), func(ctx context.Context, c controls) error {
			token, err := c.CreateToken(ctx, createToken{Uses: *uses})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		})
	}
	return cmd
}

// addPassword gives a command the flag --password-stdin, and returns how to find the password and what to show of it.
func addPassword(cmd *cobra.Command) func(io.Reader) (password, show string, err error) {
	fromInput := cmd.Flags().Bool("password-stdin", false, "Read the password from standard input.")
	return func(in io.Reader) (string, string, error) {
		if !*fromInput {
			made := rand.Text()
			return made, "password: " + made + "\n", nil
		}
		text, err := io.ReadAll(io.LimitReader(in, maxPasswordBytes))
		if err != nil {
			return "", "", err
		}
		password := strings.TrimRight(string(text), "\r\n")
		if password == "" {
			return "", "", errors.New("standard input has no password")
		}
		return password, "", nil
	}
}

// backupCommand makes the folder absolute, since a running server, which may do the work, has another working
// directory.
func backupCommand(env func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup FOLDER",
		Short: "Copy the SQLite database and the signing key into a new folder, also while the server runs",
		Long: `Copy the SQLite database, as it is at one moment, and the signing key into a new folder, also while the server runs.
For PostgreSQL use its own tools (pg_dump, or continuous archiving) and keep a copy of the signing key.`,
		Args: cobra.ExactArgs(1),
	}
	s := addSettings(cmd, env)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		folder, err := filepath.Abs(args[0])
		if err != nil {
			return err
		}
		return s.withControls(cmd.Context(), func(ctx context.Context, c controls) error {
			if err := c.Backup(ctx, backupTo{Folder: folder}); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "backed up to", folder)
			return err
		})
	}
	return cmd
}

// withControls has something done by the server that runs on the data directory, or here if none runs. A running
// server has settings of its own, so only the data directory must be right then.
func (s settings) withControls(ctx context.Context, do func(context.Context, controls) error) error {
	c, err := s.load()
	var problems config.Problems
	if err != nil && !errors.As(err, &problems) {
		return err
	}
	if client, runs := dialControl(ctx, c.DataDir); runs {
		return do(ctx, client)
	}
	if err != nil {
		return err
	}
	return offline(ctx, c, do)
}
