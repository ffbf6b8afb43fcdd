package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage"
)

// soonExpired is when a certificate is worth a word.
const soonExpired = 14 * 24 * time.Hour

// doctorCommand looks before it is too late: what it finds would otherwise be found by the first start, or by users.
func doctorCommand(env func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check settings, data directory, key, certificates, database and clock",
		Long: `Check settings, data directory, signing key, certificates, database and clock. Where no server runs, the database is
opened as serve would open it.`,
		Args: cobra.NoArgs,
	}
	s := addSettings(cmd, env)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := s.load()
		if err != nil {
			return err
		}
		_, runs := dialControl(cmd.Context(), c.DataDir)
		return examine(cmd.Context(), cmd.OutOrStdout(), patient{config: c, runs: runs, now: time.Now})
	}
	return cmd
}

// patient is what the checks look at.
type patient struct {
	config config.Config
	runs   bool // a server runs on the data directory
	now    func() time.Time
}

// checks in their order: later ones mean little if earlier ones fail. Each says what it found.
var checks = []struct {
	name string
	run  func(context.Context, patient) (string, error)
}{
	{"settings", func(_ context.Context, p patient) (string, error) { return string(p.config.ServerName), nil }},
	{"data directory", checkDataDir},
	{"signing key", checkKey},
	{"listeners", checkListeners},
	{"clock", checkClock},
	{"database", checkDatabase},
}

// examine makes all checks, whether or not one fails, since an operator wants the whole list.
func examine(ctx context.Context, out io.Writer, p patient) error {
	failed := 0
	for _, check := range checks {
		found, err := check.run(ctx, p)
		mark := "ok    "
		if err != nil {
			mark, found = "FAILED", err.Error()
			failed++
		}
		if _, err := fmt.Fprintf(out, "%s  %-14s  %s\n", mark, check.name, found); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(checks))
	}
	return nil
}

// checkDataDir looks for what makes a server fail late: a directory that cannot be written, and one that others can
// look into, where database and key lie. It writes and syncs a file, as the database will.
func checkDataDir(_ context.Context, p patient) (string, error) {
	dir := p.config.DataDir
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return dir + " will be made", nil
	}
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is not a directory", dir)
	}
	database := filepath.Join(dir, backupDatabase)
	if file, err := os.Stat(database); err == nil && (info.Mode()&file.Mode()).Perm()&0o077 != 0 {
		return "", fmt.Errorf("others can read %s: chmod 700 %s", database, shellQuote(dir))
	}
	probe, err := os.CreateTemp(dir, ".doctor-")
	if err != nil {
		return "", err
	}
	_, err = probe.WriteString("can be written")
	if err = errors.Join(err, probe.Sync(), probe.Close(), os.Remove(probe.Name())); err != nil {
		return "", err
	}
	return dir + " can be written", nil
}

// checkKey reads the key that serve would use. Who else can read it can speak for this server.
func checkKey(_ context.Context, p patient) (string, error) {
	key, err := signing.ReadKeyFile(p.config.SigningKey)
	if errors.Is(err, fs.ErrNotExist) {
		return p.config.SigningKey + " will be made", nil
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(p.config.SigningKey)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("others can read %s: chmod 600 it", p.config.SigningKey)
	}
	return string(key.ID()), nil
}

// checkListeners opens every address for a moment, which also finds those that need other rights.
func checkListeners(_ context.Context, p patient) (string, error) {
	for _, l := range p.config.Listen {
		if err := checkCertificate(l, p.now()); err != nil {
			return "", err
		}
		if p.runs {
			continue // the running server has the address
		}
		port, err := net.Listen("tcp", l.Address)
		if err != nil {
			return "", err
		}
		if err := port.Close(); err != nil {
			return "", err
		}
	}
	if p.runs {
		return "in use by the running server", nil
	}
	return fmt.Sprintf("%d can be opened", len(p.config.Listen)), nil
}

// checkCertificate finds certificates that do not belong to their key, and those whose renewal has stopped working.
func checkCertificate(l config.Listener, now time.Time) error {
	if !l.TLS() {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(l.TLSCert, l.TLSKey)
	if err != nil {
		return fmt.Errorf("certificate of %s: %w", l.Address, err)
	}
	if left := pair.Leaf.NotAfter.Sub(now); left < soonExpired {
		return fmt.Errorf("certificate of %s is good until %s only", l.Address, pair.Leaf.NotAfter.Format(time.DateOnly))
	}
	return nil
}

// checkClock finds a clock that was set back: then files that the server wrote come from the future.
func checkClock(_ context.Context, p patient) (string, error) {
	now := p.now()
	for _, name := range []string{p.config.SigningKey, filepath.Join(p.config.DataDir, backupDatabase)} {
		info, err := os.Stat(name)
		if err == nil && info.ModTime().After(now.Add(time.Minute)) {
			return "", fmt.Errorf("it is %s, but %s was written at %s", stamp(now), name, stamp(info.ModTime()))
		}
	}
	return stamp(now), nil
}

// stamp writes times in UTC, as clocks that are wrong are often wrong by a time zone.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// checkDatabase opens the database as serve does, with migrations and the check of its server's name. One that is in
// use is left alone: the server that uses it has opened it.
func checkDatabase(ctx context.Context, p patient) (found string, err error) {
	if p.runs {
		return p.config.Database.String() + ", in use by the running server", nil
	}
	db, err := storage.Open(ctx, storage.Settings{
		URL: string(p.config.Database), DataDir: p.config.DataDir, ServerName: p.config.ServerName,
	})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	query := `SELECT 'SQLite ' || sqlite_version()`
	if p.config.Database != "sqlite" {
		query = `SELECT version()`
	}
	version, _, err := storage.One[string](ctx, db, query)
	return fmt.Sprintf("%s, at position %d", version, db.Position()), err
}
