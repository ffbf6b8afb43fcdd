package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/event/pushrules"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/users"
)

// operator does what an operator asks for, on the open database.
type operator struct {
	config   config.Config
	db       *storage.DB
	accounts *accounts.Accounts
}

// CreateUser implements controls.
func (o operator) CreateUser(ctx context.Context, in createUser) (matrix.UserID, error) {
	user, err := o.accounts.CreateUser(ctx, accounts.NewUser{Username: in.Username, Password: in.Password, Admin: in.Admin})
	return user, plain(err)
}

// ResetPassword implements controls.
func (o operator) ResetPassword(ctx context.Context, in resetPassword) error {
	user, err := matrix.ParseUserID(in.User)
	if err != nil { // then it should be a localpart, which is what operators write
		user, err = matrix.NewUserID(in.User, o.config.ServerName)
	}
	if err != nil {
		return plain(err)
	}
	return plain(o.accounts.ResetPassword(ctx, user, in.Password, in.LogoutDevices))
}

// CreateToken implements controls.
func (o operator) CreateToken(ctx context.Context, in createToken) (string, error) {
	var token users.RegistrationToken
	if in.Uses != 0 {
		token.UsesAllowed = &in.Uses
	}
	token, err := o.accounts.AddRegistrationToken(ctx, token)
	return token.Token, plain(err)
}

// plain is a Matrix error without its code, which tells an operator nothing.
func plain(err error) error {
	var e *matrix.Error
	if errors.As(err, &e) {
		return errors.New(e.Message)
	}
	return err
}

// offline opens the database, which nobody else may have open, and has something done there.
func offline(ctx context.Context, c config.Config, do func(context.Context, controls) error) error {
	log := slog.New(slog.DiscardHandler) // errors are returned
	if err := openDataDir(c.DataDir); err != nil {
		return err
	}
	db, err := storage.Open(ctx, storage.Settings{URL: string(c.Database), DataDir: c.DataDir, ServerName: c.ServerName, Log: log})
	if err != nil {
		return err
	}
	people, err := openAccounts(c, db, nil)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	// The committer runs as long as the work does, and stores what that has handed over before it ends.
	work := func(ctx context.Context) error { return do(ctx, operator{c, db, people}) }
	return errors.Join(runStages(ctx, stage{work}, stage{db.Run}), db.Close())
}

// openAccounts is the same for a server and for a command without one, so that an account is the same wherever it was
// made. Permits says to which servers nothing is sent; nil: to none is anything.
func openAccounts(c config.Config, db *storage.DB, permits func(matrix.ServerName) error) (*accounts.Accounts, error) {
	return accounts.New(accounts.Settings{
		DB: db, ServerName: c.ServerName,
		Registration: c.Registration, SharedSecret: c.RegistrationSharedSecret, Guests: c.Guests,
		PasswordHashCost: c.PasswordHashCost, DefaultPushRules: pushrules.DefaultContent, Permits: permits,
		Now: time.Now, Rand: rand.Reader,
	})
}

// Names in a backup.
const (
	backupDatabase = "myelin.db"
	backupKey      = "signing.key"
)

// Backup implements controls. The folder appears whole or not at all.
func (o operator) Backup(ctx context.Context, in backupTo) error {
	if o.config.Database != "sqlite" {
		return errors.New("the database is PostgreSQL: back it up with pg_dump, and copy " + o.config.SigningKey)
	}
	if _, err := os.Lstat(in.Folder); !errors.Is(err, os.ErrNotExist) {
		return errors.New(in.Folder + " is there already: name a new folder")
	}
	// Beside the folder, so that it is on the same file system and can be moved there in one step.
	making, err := os.MkdirTemp(filepath.Dir(in.Folder), ".myelin-backup-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(making)
	if err := o.db.BackupTo(ctx, filepath.Join(making, backupDatabase)); err != nil {
		return err
	}
	key, _, err := signingKey(o.config.SigningKey)
	if err != nil {
		return err
	}
	if err := key.WriteFile(filepath.Join(making, backupKey)); err != nil {
		return err
	}
	return os.Rename(making, in.Folder)
}
