package access

import (
	"context"
	"sync"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
)

// Limits of what is remembered of server ACLs.
const (
	maxACLs        = 2000
	maxACLVerdicts = 1000 // of one
)

// ACLs remembers the ACLs of rooms, compiled, by the number of their event, and what they say of servers. The zero value is
// ready for use.
type ACLs struct {
	mu    sync.Mutex
	known map[int64]*verdicts
}

type verdicts struct {
	acl *event.ServerACL
	of  map[matrix.ServerName]bool
}

// Permits says whether the ACL of an event permits a server. num is the number of the event, content its content.
func (l *ACLs) Permits(num int64, content []byte, s matrix.ServerName) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.known[num]
	if v == nil {
		if l.known == nil || len(l.known) >= maxACLs {
			l.known = make(map[int64]*verdicts)
		}
		v = &verdicts{acl: event.ParseServerACL(content)}
		l.known[num] = v
	}
	verdict, known := v.of[s]
	if !known {
		if v.of == nil || len(v.of) >= maxACLVerdicts {
			v.of = make(map[matrix.ServerName]bool)
		}
		verdict = v.acl.Permits(s)
		v.of[s] = verdict
	}
	return verdict
}

// Check refuses a server that the current state of a room denies. Of a room whose state is not known here, nothing is
// denied. The error is M_FORBIDDEN.
// https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls
func (a *Access) Check(ctx context.Context, s matrix.ServerName, room matrix.RoomID) error {
	state, err := a.rooms.Current(ctx, room)
	if matrix.CodeOf(err) == matrix.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	acl, err := state.Event(ctx, event.Key{Type: event.TypeServerACL})
	if err != nil || acl == nil {
		return err
	}
	if !a.acls.Permits(acl.Num, acl.Content, s) {
		return matrix.Errorf(matrix.Forbidden, "%s is denied by the server ACL of %s", s, room)
	}
	return nil
}
