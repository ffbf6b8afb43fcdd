package signing

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxKeyFileBytes is far more than the 60 bytes of a key.
const maxKeyFileBytes = 64 << 10

// ReadKeyFile reads a key in the text form of Synapse, so that a server keeps
// its key when it changes software: a line of algorithm, version and seed in
// base64, apart by white space. Of several keys the first is the one to sign
// with. A file that is not there gives an error that is fs.ErrNotExist. Who
// may read the file is not looked at; [Key.WriteFile] lets only the owner.
func ReadKeyFile(path string) (Key, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Key{}, fmt.Errorf("signing key: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxKeyFileBytes {
		return Key{}, fmt.Errorf("signing key %s: not a key file", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("signing key: %w", err)
	}
	key, err := parseKeyFile(string(text))
	if err != nil {
		return Key{}, fmt.Errorf("signing key %s: %w", path, err)
	}
	return key, nil
}

// parseKeyFile never puts a part of the text into its errors: it is secret.
func parseKeyFile(text string) (Key, error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 3 || fields[0] != algorithm {
			return Key{}, errors.New(`want a line "ed25519 version seed", with the seed in base64`)
		}
		seed, err := DecodeBase64(fields[2])
		if err != nil {
			return Key{}, fmt.Errorf("the seed is %w", err)
		}
		return NewKey(KeyID(algorithm+":"+fields[1]), seed)
	}
	return Key{}, errors.New("no key in the file")
}

// WriteFile writes the key to a new file that only its owner can read. The
// file is there either whole and on the disk, or not at all. A file that
// exists stays: a key that was used must not be lost.
func (k Key) WriteFile(path string) error {
	if err := k.writeFile(path); err != nil {
		return fmt.Errorf("write signing key: %w", err)
	}
	return nil
}

func (k Key) writeFile(path string) (err error) {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".signing-key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	_, err = fmt.Fprintf(temporary, "%s %s %s\n", algorithm, k.id.Version(), EncodeBase64(k.private.Seed()))
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	if err := publish(temporary.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// publish gives a file its name unless the name is taken. Where the file
// system has no hard links the check and the renaming are two steps.
func publish(temporary, path string) error {
	err := os.Link(temporary, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	return os.Rename(temporary, path)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
