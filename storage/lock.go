package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// lockDir takes the lock of the data directory, so that one process uses it. The kernel releases it
// when the process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// The file stays when the lock is given up: to remove it would let two processes lock two files of one name.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("the data directory %s is used by another process%s", dir, holderText(holder))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := f.Truncate(0); err != nil { // whose it is, for the message above only
		f.Close()
		return nil, err
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// holderText names the process that has the lock, so that an operator can look what it is.
func holderText(pid []byte) string {
	if n, err := strconv.Atoi(strings.TrimSpace(string(pid))); err == nil {
		return fmt.Sprintf(" (process %d)", n)
	}
	return ""
}

// diskIsFull tells whether the operating system refused to write for want of room.
func diskIsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// roomTried is as much as a group may need.
const roomTried = 4 << 20

// tryRoom returns why dir has no room for more: nil if it has.
func tryRoom(dir string) error {
	f, err := os.CreateTemp(dir, "room-")
	if err == nil {
		_ = os.Remove(f.Name()) // it is written to without a name, and gone with f
		_, err = f.Write(make([]byte, roomTried))
		f.Close()
	}
	if diskIsFull(err) {
		return err
	}
	return nil
}
