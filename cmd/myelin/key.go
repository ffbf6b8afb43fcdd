package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/myelin-chat/myelin/matrix/signing"
)

// openDataDir makes the data directory, which holds secrets: nobody else may look in.
func openDataDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	return nil
}

// signingKey reads the server's key, or makes it on the first run. Other servers know this one by its key, so a file
// that is there but cannot be read is an error and never replaced.
func signingKey(path string) (key signing.Key, made bool, err error) {
	key, err = signing.ReadKeyFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return key, false, fmt.Errorf("make the folder of the signing key: %w", err)
	}
	if key, err = signing.Generate(rand.Reader); err != nil {
		return key, false, err
	}
	return key, true, key.WriteFile(path)
}
