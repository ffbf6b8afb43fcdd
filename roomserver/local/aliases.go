package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

const maxAliasServers = 100

// ResolveAlias returns the room that an alias of this server leads to, and servers through which it may be entered: this
// one, and some of those that are in the room, or are said to be while not all members are known here.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3directoryroomroomalias
func (s *Users) ResolveAlias(ctx context.Context, alias matrix.RoomAlias) (matrix.RoomID, []matrix.ServerName, error) {
	a, err := s.alias(ctx, alias)
	if err != nil {
		return "", nil, err
	}
	joined, err := rooms.JoinedServers(ctx, s.db, a.RoomNum, maxAliasServers)
	if err != nil {
		return "", nil, fmt.Errorf("find the servers in %s: %w", a.Room, err)
	}
	partial, _, err := rooms.PartialOf(ctx, s.db, a.RoomNum)
	if err != nil {
		return "", nil, fmt.Errorf("find the servers in %s: %w", a.Room, err)
	}
	servers := []matrix.ServerName{s.name}
	for _, server := range append(joined, partial.Servers...) {
		if len(servers) < maxAliasServers && !slices.Contains(servers, server) {
			servers = append(servers, server)
		}
	}
	return a.Room, servers, nil
}

func (s *Users) alias(ctx context.Context, alias matrix.RoomAlias) (rooms.Alias, error) {
	a, found, err := rooms.ByAlias(ctx, s.db, alias)
	switch {
	case err != nil:
		return a, fmt.Errorf("find alias %s: %w", alias, err)
	case !found:
		return a, matrix.Errorf(matrix.NotFound, "there is no room with the alias %s", alias)
	}
	return a, nil
}

// SetAlias makes an alias of this server for a room that the user is in.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3directoryroomroomalias
func (s *Users) SetAlias(ctx context.Context, by matrix.Requester, alias matrix.RoomAlias, id matrix.RoomID) error {
	if alias.Server() != s.name {
		return matrix.Errorf(matrix.InvalidParam, "aliases of %s are not made here", alias.Server())
	}
	room, err := s.owners.Room(ctx, id)
	if err != nil {
		return notThere(id, err)
	}
	if err := s.mustBeJoined(ctx, by.User, room); err != nil && !by.Admin {
		return err
	}
	_, err = s.db.Commit(ctx, rooms.Alias{Alias: alias, RoomNum: room.Num, Room: id, Creator: by.User})
	if errors.Is(err, storage.ErrDuplicate) {
		return matrix.Errorf(matrix.Unknown, "the alias %s is taken", alias).WithStatus(409)
	}
	return err
}

// mustBeJoined refuses who is not in the room, by what is committed.
func (s *Users) mustBeJoined(ctx context.Context, user matrix.UserID, room rooms.Room) error {
	m, found, err := rooms.MembershipOf(ctx, s.db, room.Num, user)
	if err != nil {
		return fmt.Errorf("find the membership of %s in %s: %w", user, room.ID, err)
	}
	if !found || m.Membership != event.Join {
		return matrix.Errorf(matrix.Forbidden, "%s is not in %s", user, room.ID)
	}
	return nil
}

// DeleteAlias deletes an alias: one's own, or with the power to say which the room's aliases are. If it
// is among these, it is taken from them, as far as its deleter has the power.
// https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3directoryroomroomalias
func (s *Users) DeleteAlias(ctx context.Context, by matrix.Requester, alias matrix.RoomAlias) error {
	a, err := s.alias(ctx, alias)
	if err != nil {
		return err
	}
	mayChange, err := s.mayChangeAliases(ctx, by.User, a.Room)
	if err != nil {
		return err
	}
	if a.Creator != by.User && !mayChange && !by.Admin {
		return matrix.Errorf(matrix.Forbidden, "%s may not delete %s, which %s made", by.User, alias, a.Creator)
	}
	if _, err := s.db.Commit(ctx, rooms.DeleteAlias{Alias: a}); err != nil {
		return err
	}
	if !mayChange {
		return nil
	}
	return s.owners.Do(ctx, a.Room, func(ctx context.Context, st *owner.Step) error {
		return dropCanonicalAlias(ctx, st, by.User, alias)
	})
}

// mayChangeAliases says whether a user may send the state that names a room's aliases.
func (s *Users) mayChangeAliases(ctx context.Context, user matrix.UserID, id matrix.RoomID) (bool, error) {
	state, err := s.owners.Current(ctx, id)
	if err != nil {
		return false, err
	}
	levels, err := state.Levels(ctx)
	if err != nil {
		return false, err
	}
	m, _, err := state.Member(ctx, user)
	return m == event.Join && levels.User(user) >= levels.ForEvent(event.TypeCanonicalAlias, true), err
}

// dropCanonicalAlias takes an alias out of m.room.canonical_alias, if it is there.
func dropCanonicalAlias(ctx context.Context, st *owner.Step, by matrix.UserID, alias matrix.RoomAlias) error {
	found, err := st.Lookup(ctx, event.Key{Type: event.TypeCanonicalAlias})
	if err != nil || found[0] == nil {
		return err
	}
	content, changed, err := withoutAlias(found[0].Content, alias)
	if err != nil || !changed {
		return err
	}
	stateKey := ""
	_, err = st.Add(ctx, owner.Draft{Type: event.TypeCanonicalAlias, StateKey: &stateKey, Sender: by, Content: content})
	if matrix.CodeOf(err) == matrix.Forbidden {
		return nil // the power was lost meanwhile; the alias is gone all the same
	}
	return err
}

func withoutAlias(content []byte, alias matrix.RoomAlias) (changed []byte, did bool, err error) {
	fields := make(map[string]any)
	for name, raw := range canonical.Fields(content) {
		text, _ := canonical.String(raw)
		switch {
		case name == "alias" && text == string(alias):
			did = true
		case name == "alt_aliases" && raw[0] == '[':
			kept := []json.RawMessage{}
			for each := range canonical.Elements(raw) {
				if text, _ := canonical.String(each); text == string(alias) {
					did = true
				} else {
					kept = append(kept, each)
				}
			}
			fields[name] = kept
		default:
			fields[name] = json.RawMessage(raw)
		}
	}
	changed, err = canonical.Marshal(fields)
	return changed, did, err
}

// Aliases returns the aliases of a room on this server, to members and where the world may read along.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidaliases
func (s *Users) Aliases(ctx context.Context, by matrix.Requester, id matrix.RoomID) ([]matrix.RoomAlias, error) {
	room, err := s.owners.Room(ctx, id)
	if err != nil {
		return nil, notThere(id, err)
	}
	if err := s.mayListAliases(ctx, by, room); err != nil {
		return nil, err
	}
	found, err := rooms.AliasesOf(ctx, s.db, room.Num)
	if err != nil {
		return nil, fmt.Errorf("find the aliases of %s: %w", id, err)
	}
	aliases := make([]matrix.RoomAlias, len(found))
	for i, a := range found {
		aliases[i] = a.Alias
	}
	return aliases, nil
}

func (s *Users) mayListAliases(ctx context.Context, by matrix.Requester, room rooms.Room) error {
	refused := s.mustBeJoined(ctx, by.User, room)
	if refused == nil || by.Admin {
		return nil
	}
	if matrix.CodeOf(refused) != matrix.Forbidden {
		return refused
	}
	state, err := s.owners.Current(ctx, room.ID)
	if err != nil {
		return err
	}
	visibility, err := state.Event(ctx, event.Key{Type: event.TypeHistoryVisibility})
	if err != nil {
		return err
	}
	if visibility.Text("history_visibility") != "world_readable" {
		return refused
	}
	return nil
}
