package storage

import (
	"errors"
	"net/http"

	"github.com/myelin-chat/myelin/matrix"
)

var (
	// ErrDuplicate says that a row with this key was there already, in a table whose conflicts fail.
	ErrDuplicate = errors.New("storage: such a row is already there")
	// ErrChain says that an earlier item of the same chain failed, so this one was not tried.
	ErrChain = errors.New("storage: an earlier write of the chain failed")
	// ErrClosed says that the database is closed or closing; the write was not stored.
	ErrClosed = errors.New("storage: the database is closed")
)

// ErrFull says that the disk of the database is full. The write was not stored; the next one is tried
// again, so all goes on by itself when there is room.
var ErrFull error = matrix.Errorf(matrix.Unknown, "the disk of this server is full").WithStatus(http.StatusInsufficientStorage)

// ErrUnavailable says that the database could not be reached for some time. The write was not stored.
var ErrUnavailable error = matrix.Errorf(matrix.Unknown, "the database of this server cannot be reached").WithStatus(http.StatusServiceUnavailable)
