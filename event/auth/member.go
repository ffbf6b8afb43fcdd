package auth

import (
	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// The join rules that the authorisation rules know.
// https://spec.matrix.org/v1.19/client-server-api/#mroomjoin_rules
const (
	rulePublic          = "public"
	ruleInvite          = "invite"
	ruleKnock           = "knock"
	ruleRestricted      = "restricted"
	ruleKnockRestricted = "knock_restricted"
)

// member is v11 rule 4.
func (c *check) member() error {
	ev := c.ev
	// v11 rule 4.1.
	if !ev.IsState() {
		return reject("4.1", "m.room.member is not a state event")
	}
	if _, ok := canonical.String(canonical.Get(ev.Content, "membership")); !ok {
		return reject("4.1", "the content has no membership")
	}
	// The specification knows users by valid IDs only; a member that is none
	// could never act, nor be named in power levels.
	if _, err := matrix.ParseUserID(*ev.StateKey); err != nil {
		return reject("4.1", "the state key %q is not a user ID", *ev.StateKey)
	}
	// v11 rule 4.2: that the signature is valid was found when the event came
	// in (event.RequiredSigners); CheckAuthEvents looks that it is there.
	if via, ok := ev.JoinAuthoriser(); ok && via == "" {
		return reject("4.2.1", "join_authorised_via_users_server is not a user ID")
	}
	switch m := ev.Membership(); {
	case m == event.Join:
		return c.join()
	case m == event.Invite:
		return c.invite()
	case m == event.Leave:
		return c.leave()
	case m == event.Ban:
		return c.ban()
	case m == event.Knock && c.v.Knock:
		return c.knock()
	default:
		// v11 rule 4.8.
		return reject("4.8", "the membership %q is unknown", m)
	}
}

// join is v11 rule 4.3.
func (c *check) join() error {
	ev, target := c.ev, c.ev.Target()
	// v11 rule 4.3.1: the creator's first join.
	if len(ev.PrevEvents) == 1 && ev.PrevEvents[0] == c.create.ID && target == c.firstMember() {
		return nil
	}
	// v11 rule 4.3.2.
	if ev.Sender != target {
		return reject("4.3.2", "%s cannot join for %s", ev.Sender, target)
	}
	current := c.membership(target)
	// v11 rule 4.3.3.
	if current == event.Ban {
		return reject("4.3.3", "%s is banned", target)
	}
	expected := current == event.Invite || current == event.Join
	switch rule := c.joinRule(); {
	case rule == ruleInvite, rule == ruleKnock && c.v.Knock:
		// v11 rule 4.3.4.
		if !expected {
			return reject("4.3.7", "%s is not invited", target)
		}
		return nil
	case c.isRestricted(rule):
		// v11 rule 4.3.5.
		return c.restrictedJoin(current)
	case rule == rulePublic:
		// v11 rule 4.3.6.
		return nil
	default:
		// v11 rule 4.3.7.
		return reject("4.3.7", "the join rule %q lets nobody in", rule)
	}
}

// firstMember is the user that may join an empty room.
func (c *check) firstMember() matrix.UserID {
	if c.v.Creator == event.CreatorIsSender {
		return c.create.Sender
	}
	if creators := Creators(c.v, c.create); len(creators) > 0 {
		return creators[0]
	}
	return ""
}

// restrictedJoin is v11 rule 4.3.5.
func (c *check) restrictedJoin(current event.Membership) error {
	// v11 rule 4.3.5.1.
	if current == event.Join || current == event.Invite {
		return nil
	}
	// v11 rule 4.3.5.2.
	via, ok := c.ev.JoinAuthoriser()
	if !ok {
		return reject("4.3.5.2", "%s is not invited, and nobody vouches for it", c.ev.Sender)
	}
	if c.membership(via) != event.Join {
		return reject("4.3.5.2", "%s, who vouches for %s, is not joined", via, c.ev.Sender)
	}
	levels := c.power()
	if level := levels.User(via); level < levels.Invite() {
		return reject("4.3.5.2", "%s, who vouches for %s, has level %d, inviting needs %d", via, c.ev.Sender, level, levels.Invite())
	}
	// v11 rule 4.3.5.3.
	return nil
}

// joinRule returns the join rule of the room: invite if there is none.
func (c *check) joinRule() string {
	rules := c.st(joinRulesKey)
	if rules == nil {
		return ruleInvite
	}
	raw := canonical.Get(rules.Content, "join_rule")
	if string(raw) == `"`+rulePublic+`"` {
		return rulePublic // mostly, and without a copy
	}
	s, _ := canonical.String(raw)
	return s
}

// isRestricted says whether a join rule is restricted in this room version.
func (c *check) isRestricted(rule string) bool {
	return rule == ruleRestricted && c.v.RestrictedJoins || rule == ruleKnockRestricted && c.v.KnockRestricted
}

// invite is v11 rule 4.4.
func (c *check) invite() error {
	ev, target := c.ev, c.ev.Target()
	// v11 rule 4.4.1.
	if third := canonical.Get(ev.Content, "third_party_invite"); third != nil {
		return c.thirdPartyInvite(third)
	}
	// v11 rule 4.4.2.
	if c.membership(ev.Sender) != event.Join {
		return reject("4.4.2", "%s is not joined", ev.Sender)
	}
	// v11 rule 4.4.3.
	switch m := c.membership(target); m {
	case event.Join:
		return reject("4.4.3", "%s is joined already", target)
	case event.Ban:
		return reject("4.4.3", "%s is banned", target)
	}
	// v11 rules 4.4.4 and 4.4.5.
	levels := c.power()
	if level := levels.User(ev.Sender); level < levels.Invite() {
		return reject("4.4.5", "%s has level %d, inviting needs %d", ev.Sender, level, levels.Invite())
	}
	return nil
}

// leave is v11 rule 4.5.
func (c *check) leave() error {
	ev, target := c.ev, c.ev.Target()
	current := c.membership(target)
	// v11 rule 4.5.1.
	if ev.Sender == target {
		if current == event.Invite || current == event.Join || current == event.Knock && c.v.Knock {
			return nil
		}
		return reject("4.5.1", "%s is not in the room, invited or knocking", target)
	}
	// v11 rule 4.5.2.
	if c.membership(ev.Sender) != event.Join {
		return reject("4.5.2", "%s is not joined", ev.Sender)
	}
	levels := c.power()
	sender, other := levels.User(ev.Sender), levels.User(target)
	// v11 rule 4.5.3.
	if current == event.Ban && sender < levels.Ban() {
		return reject("4.5.3", "%s has level %d, lifting a ban needs %d", ev.Sender, sender, levels.Ban())
	}
	// v11 rules 4.5.4 and 4.5.5.
	if sender < levels.Kick() {
		return reject("4.5.5", "%s has level %d, removing a user needs %d", ev.Sender, sender, levels.Kick())
	}
	if other >= sender {
		return reject("4.5.5", "%s has no higher level than %s", ev.Sender, target)
	}
	return nil
}

// ban is v11 rule 4.6.
func (c *check) ban() error {
	ev, target := c.ev, c.ev.Target()
	// v11 rule 4.6.1.
	if c.membership(ev.Sender) != event.Join {
		return reject("4.6.1", "%s is not joined", ev.Sender)
	}
	levels := c.power()
	sender, other := levels.User(ev.Sender), levels.User(target)
	// v11 rules 4.6.2 and 4.6.3.
	if sender < levels.Ban() {
		return reject("4.6.3", "%s has level %d, banning needs %d", ev.Sender, sender, levels.Ban())
	}
	if other >= sender {
		return reject("4.6.3", "%s has no higher level than %s", ev.Sender, target)
	}
	return nil
}

// knock is v11 rule 4.7.
func (c *check) knock() error {
	ev := c.ev
	// v11 rule 4.7.1.
	rule := c.joinRule()
	if rule != ruleKnock && !(rule == ruleKnockRestricted && c.v.KnockRestricted) {
		return reject("4.7.1", "the join rule %q does not let anybody knock", rule)
	}
	// v11 rule 4.7.2.
	if ev.Sender != ev.Target() {
		return reject("4.7.2", "%s cannot knock for %s", ev.Sender, ev.Target())
	}
	// v11 rules 4.7.3 and 4.7.4.
	switch m := c.membership(ev.Sender); m {
	case event.Ban, event.Invite, event.Join:
		return reject("4.7.4", "%s cannot knock: its membership is %s", ev.Sender, m)
	}
	return nil
}
