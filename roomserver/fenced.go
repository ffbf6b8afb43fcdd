package roomserver

import "errors"

// IsFenced says whether an error came of a room that is fenced off, since work for it panicked: this work, or other work
// a little before. The room is loaded afresh some time later.
func IsFenced(err error) bool { return errors.Is(err, errFenced) }
