package storage

import (
	"log/slog"
	"time"
)

// complaintsEvery is how often what fails over and over is logged.
const complaintsEvery = time.Second

// complaints logs errors that come again with every group while something is wrong, a full disk for one: at most one line
// in complaintsEvery, which says how many it stands for. Only the committer uses it.
type complaints struct {
	log    *slog.Logger
	next   time.Time // nothing is logged before
	silent int64     // errors since the last line
}

func (c *complaints) error(now time.Time, what string, err error) {
	c.silent++
	if now.Before(c.next) {
		return
	}
	c.log.Error(what, "err", err, "times", c.silent)
	c.next, c.silent = now.Add(complaintsEvery), 0
}
