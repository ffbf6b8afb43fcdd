package receive

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/roomserver/policy"
)

// askPolicy is the station of Receive in which events that came without the signature of the room's policy server get it,
// or are noted as unwanted. It goes by the current state as it is before them; the owner holds what is noted against the
// state that is current then.
// https://spec.matrix.org/v1.19/server-server-api/#validating-policy-server-signatures
func (f *fetch) askPolicy(ctx context.Context) error {
	p, named, inUse, err := f.receiver.owners.PolicyIn(ctx, f.room)
	if err != nil || !inUse {
		return err
	}
	var unsigned []int
	for i, ev := range f.batch {
		if f.isWanted(ev) && p.Wants(ev) {
			unsigned = append(unsigned, i)
		}
	}
	f.BeginPolicy(named)
	ctx, cancel := context.WithTimeout(ctx, policyPatience)
	defer cancel()
	for some := range slices.Chunk(unsigned, policy.MaxAsked) {
		f.askPolicyAbout(ctx, p, some)
	}
	return nil
}

// askPolicyAbout asks about some events of the batch at once.
func (f *fetch) askPolicyAbout(ctx context.Context, p policy.Server, some []int) {
	signed, refused := make([]*event.Event, len(some)), make([]error, len(some))
	var wait sync.WaitGroup
	for i, at := range some {
		wait.Go(func() { signed[i], refused[i] = f.receiver.owners.SignByPolicy(ctx, p, f.batch[at]) })
	}
	wait.Wait()
	for i, at := range some {
		if refused[i] != nil {
			f.Unwanted(f.batch[at].ID, refused[i].Error())
			continue
		}
		f.batch[at] = signed[i]
		f.inBatch[signed[i].ID] = signed[i]
	}
}

// policyPatience is how long a policy server is waited for, for all events that came together.
const policyPatience = 10 * time.Second
