package receive

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/roomserver/policy"
)

// policyPatience is for the policy server of one room, and less than what other servers wait for us.
const policyPatience = 10 * time.Second

// askPolicy is the station of Receive in which events that came without the signature of the room's policy server get it,
// or are noted as unwanted. Those that it had no time for are taken out of the batch, and returned as to be sent again: it
// has not said anything about them. The station goes by the current state as it is before them; the owner holds what is
// noted against the state that is current then.
// https://spec.matrix.org/v1.19/server-server-api/#validating-policy-server-signatures
func (f *fetch) askPolicy(ctx context.Context) (unasked []owner.Result, err error) {
	p, named, inUse, err := f.receiver.owners.PolicyIn(ctx, f.room)
	if err != nil || !inUse {
		return nil, err
	}
	var unsigned []int
	for i, ev := range f.batch {
		if f.isWanted(ev) && p.Wants(ev) {
			unsigned = append(unsigned, i)
		}
	}
	f.BeginPolicy(named)
	ctx, cancel := context.WithTimeout(ctx, f.receiver.PolicyPatience)
	defer cancel()
	for some := range slices.Chunk(unsigned, policy.MaxAsked) {
		unasked = append(unasked, f.askPolicyAbout(ctx, p, some)...)
	}
	for _, r := range unasked {
		delete(f.inBatch, r.Event)
	}
	f.batch = slices.DeleteFunc(f.batch, func(ev *event.Event) bool { return f.inBatch[ev.ID] == nil })
	return unasked, nil
}

// askPolicyAbout asks about some events of the batch at once, and returns those that it could not ask about.
func (f *fetch) askPolicyAbout(ctx context.Context, p policy.Server, some []int) (unasked []owner.Result) {
	signed, refused := make([]*event.Event, len(some)), make([]error, len(some))
	var wait sync.WaitGroup
	for i, at := range some {
		wait.Go(func() { signed[i], refused[i] = f.receiver.owners.SignByPolicy(ctx, p, f.batch[at]) })
	}
	wait.Wait()
	for i, at := range some {
		id := f.batch[at].ID
		switch {
		case refused[i] == nil:
			f.batch[at], f.inBatch[id] = signed[i], signed[i]
		case policy.IsUnasked(refused[i]):
			unasked = append(unasked, owner.Result{Event: id, Outcome: owner.Busy, Err: refused[i]})
		default:
			f.Unwanted(id, refused[i].Error())
		}
	}
	return unasked
}
