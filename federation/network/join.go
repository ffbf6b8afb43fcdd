package network

import (
	"context"
	"errors"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

// Join takes a user of ours into a room: if this server is in it, at once; else through the servers that via names, or
// that this server thinks are in it. A restricted room that nobody here can let the user into is tried through others.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3joinroomidoralias
func (n *Network) Join(ctx context.Context, by matrix.Requester, in roomserver.JoinRoom, via []matrix.ServerName) error {
	standing, err := n.joinHere(ctx, by, in)
	if !isElsewhere(err) {
		return err
	}
	if by.Guest {
		return matrix.Errorf(matrix.GuestAccessForbidden, "guests join rooms only that this server is in")
	}
	ctx, cancel := detached(ctx, visitTimeout)
	defer cancel()
	done, turnErr := n.turns.take(ctx, in.Room)
	if turnErr != nil {
		return turnErr
	}
	defer done()
	if errors.Is(err, errNotHere) {
		// Another may have brought the room meanwhile.
		if standing, err = n.joinHere(ctx, by, in); !isElsewhere(err) {
			return err
		}
	}
	v, beginErr := n.begin(ctx, by, plan{in: in, membership: event.Join, standing: standing, via: via})
	switch {
	case beginErr != nil && errors.Is(err, errNotHere):
		return beginErr
	case beginErr != nil:
		return err // nobody else is there to ask
	}
	return v.each(ctx, func(ctx context.Context, s matrix.ServerName) error { return n.joinThrough(ctx, v, s) })
}

var errNotHere = errors.New("this server is not in the room")

// joinHere joins a room that this server is in.
func (n *Network) joinHere(ctx context.Context, by matrix.Requester, in roomserver.JoinRoom) (roomserver.Standing, error) {
	standing, err := n.rooms.Standing(ctx, by.User, in.Room)
	switch {
	case err != nil:
		return standing, err
	case !standing.Resident:
		return standing, errNotHere
	}
	return standing, n.rooms.JoinWith(ctx, by, in)
}

// isElsewhere says whether a join that failed here may succeed through another server.
// https://spec.matrix.org/v1.19/server-server-api/#restricted-rooms
func isElsewhere(err error) bool {
	code := matrix.CodeOf(err)
	return errors.Is(err, errNotHere) || code == matrix.UnableToAuthoriseJoin || code == matrix.UnableToGrantJoin
}

// joinThrough joins through one server. Of a room that this server has never been in, it need not tell the members: they
// come later. If this server is in the room, and only does not know whether the user may come in, that the server which let
// it in would let in the user is all that is wanted, but where the rules of the room want another to vouch for the user.
// https://spec.matrix.org/v1.19/server-server-api/#joining-rooms
func (n *Network) joinThrough(ctx context.Context, v visit, s matrix.ServerName) error {
	template, err := n.remote.MakeJoin(ctx, v.at(s))
	if err != nil {
		return err
	}
	join, err := n.event(v, template)
	if err != nil {
		return err
	}
	_, authorised := join.JoinAuthoriser()
	if host := v.standing.Host; host != "" && !(authorised && v.standing.Restricted) {
		if s != host {
			return matrix.Errorf(matrix.UnableToAuthoriseJoin, "only %s can say yet whether the user may join", host)
		}
		in := v.in
		in.Vouched = true
		return n.rooms.JoinWith(ctx, v.by, in)
	}
	answer, err := n.remote.SendJoin(ctx, s, remote.JoinRequest{Join: join, OmitMembers: !v.standing.Lived})
	if err != nil {
		return err
	}
	return n.rooms.Adopt(ctx, roomserver.JoinAnswer{
		Room: v.room, Version: join.Version, Join: answer.Join, State: answer.State, AuthChain: answer.AuthChain,
		MembersOmitted: answer.MembersOmitted, Servers: n.others(s, answer.Servers),
	})
}

// others are the servers of a room but this one, each once, the first before all others.
func (n *Network) others(first matrix.ServerName, servers []matrix.ServerName) []matrix.ServerName {
	list := []matrix.ServerName{first}
	listed := map[matrix.ServerName]bool{first: true, n.rooms.ServerName(): true}
	for _, s := range servers {
		if !listed[s] {
			listed[s] = true
			list = append(list, s)
		}
	}
	return list
}
