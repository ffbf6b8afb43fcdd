package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage"
)

// restoreCommand is a command of its own rather than a copy by hand because clients remember more than the backup
// does: the restored database needs a new incarnation, or they would wait for positions that are given a second time.
func restoreCommand(env func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore [FOLDER]",
		Short: "Put a backup into the data directory, which must have no database; the server must not run",
		Long: `Put a backup into the data directory, which must have no database; the server must not run. Clients then sync from the
beginning, as what they know may be newer than the backup.
For PostgreSQL restore with its own tools and put the signing key back, and then run this without a folder, so that
clients learn of it.`,
		Args: cobra.MaximumNArgs(1),
	}
	s := addSettings(cmd, env)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := s.load()
		if err != nil {
			return err
		}
		if err := restore(cmd.Context(), c, args); err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "restored; start the server with myelin serve")
		return err
	}
	return cmd
}

// restore never writes over anything: there must be no database, and no other key.
func restore(ctx context.Context, c config.Config, folder []string) error {
	target := storage.Settings{URL: string(c.Database), DataDir: c.DataDir}
	if c.Database != "sqlite" {
		if len(folder) > 0 {
			return errors.New("the database is PostgreSQL: restore it with its own tools, then name no folder here")
		}
		return storage.RenewIncarnation(ctx, target)
	}
	if len(folder) == 0 {
		return errors.New("name the folder that myelin backup wrote")
	}
	if err := openDataDir(c.DataDir); err != nil {
		return err
	}
	if err := restoreKey(c.SigningKey, filepath.Join(folder[0], backupKey)); err != nil {
		return err
	}
	return storage.RestoreFrom(ctx, target, filepath.Join(folder[0], backupDatabase))
}

// restoreKey comes before the database: a server that finds a database but no key would make another key, with which
// nobody would know it.
func restoreKey(path, from string) error {
	key, err := signing.ReadKeyFile(from)
	if err != nil {
		return err
	}
	// Restoring twice is no mistake, and a key that is the same need not be written again.
	there, err := signing.ReadKeyFile(path)
	if err == nil && there.ID() == key.ID() && bytes.Equal(there.Public(), key.Public()) {
		return nil
	}
	if err == nil {
		return fmt.Errorf("%s is another key than that of the backup: move it away first", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return key.WriteFile(path)
}
