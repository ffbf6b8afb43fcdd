package main

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/errgroup"
)

// stage is what runs side by side: each a Run(ctx) error of some part.
type stage []func(context.Context) error

// runStages runs all stages at once until ctx ends or a member returns, and then stops one stage after another, the
// first first: requests end while what serves them still works, and the database stops last. It returns the first error.
func runStages(ctx context.Context, stages ...stage) error {
	current, stopAll := context.WithCancel(ctx)
	defer stopAll()
	var group errgroup.Group
	for _, members := range stages {
		// The next stage does not end with ctx but with this one; it keeps the values of ctx.
		stop := current
		next, stopNext := context.WithCancel(context.WithoutCancel(ctx))
		var running sync.WaitGroup
		for _, run := range members {
			running.Add(1)
			group.Go(func() error {
				defer running.Done()
				// A part that gives up takes the others along: half a server is worse than one that is restarted.
				defer stopAll()
				return ended(stop, run(stop))
			})
		}
		group.Go(func() error {
			running.Wait()
			stopNext()
			return nil
		})
		current = next
	}
	return group.Wait()
}

// ended is the error of a member; that it ended because it was told to is none.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
