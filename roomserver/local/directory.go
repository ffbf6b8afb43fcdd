package local

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// SetVisibility puts a room into the directory, or takes it out. That needs the power to say which the
// room's aliases are.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3directorylistroomroomid
func (s *Users) SetVisibility(ctx context.Context, by matrix.Requester, room matrix.RoomID, public bool) error {
	return s.owners.Do(ctx, room, func(ctx context.Context, st *owner.Step) error {
		if !by.Admin {
			if err := mayPublish(ctx, st, by.User); err != nil {
				return err
			}
		}
		if st.IsListed() == public {
			return nil
		}
		return st.List(ctx, public)
	})
}

func mayPublish(ctx context.Context, st *owner.Step, user matrix.UserID) error {
	if err := st.MustBeJoined(ctx, user); err != nil {
		return err
	}
	if st.Levels().User(user) < st.Levels().ForEvent(event.TypeCanonicalAlias, true) {
		return matrix.Errorf(matrix.Forbidden, "%s has not the power to publish %s", user, st.Room().ID)
	}
	return nil
}

// Visibility says whether a room is in the directory.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3directorylistroomroomid
func (s *Users) Visibility(ctx context.Context, id matrix.RoomID) (public bool, err error) {
	room, err := s.owners.Room(ctx, id)
	if err != nil {
		return false, err
	}
	return rooms.IsPublished(ctx, s.db, room.Num)
}

// A DirectoryQuery asks for a page of the directory.
type DirectoryQuery struct {
	Limit     int    // 0: as many as a page may have
	Since     string // a batch token; empty at the start
	Term      string
	RoomTypes []*string // nil within is a room without a type; a nil list is all
}

// A DirectoryPage is a page of the directory, most members first.
type DirectoryPage struct {
	Rooms      []rooms.Published
	Next, Prev string // batch tokens; empty if there is nothing there
	Total      int64
}

// maxDirectoryPage bounds a page of the directory.
const maxDirectoryPage = 100

// Directory returns a page of the rooms that are published here.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3publicrooms
func (s *Users) Directory(ctx context.Context, in DirectoryQuery) (DirectoryPage, error) {
	ask := rooms.DirectoryQuery{Term: strings.ToLower(in.Term)}
	if in.RoomTypes != nil {
		ask.RoomTypes = make([]string, len(in.RoomTypes))
	}
	for i, t := range in.RoomTypes {
		if t != nil {
			ask.RoomTypes[i] = *t
		}
	}
	limit := maxDirectoryPage
	if in.Limit > 0 {
		limit = min(in.Limit, limit)
	}
	ask.Limit = limit + 1 // one more tells whether there is a next page
	if in.Since != "" {
		var err error
		if ask.After, ask.Backward, err = parseBatch(in.Since); err != nil {
			return DirectoryPage{}, err
		}
	}
	return s.directoryPage(ctx, ask)
}

func (s *Users) directoryPage(ctx context.Context, ask rooms.DirectoryQuery) (DirectoryPage, error) {
	found, err := rooms.Directory(ctx, s.db, ask)
	if err != nil {
		return DirectoryPage{}, fmt.Errorf("read the directory: %w", err)
	}
	total, err := rooms.DirectorySize(ctx, s.db, ask)
	if err != nil {
		return DirectoryPage{}, fmt.Errorf("count the directory: %w", err)
	}
	more := len(found) == ask.Limit
	if more {
		found = found[:ask.Limit-1]
	}
	if ask.Backward {
		slices.Reverse(found)
	}
	page := DirectoryPage{Rooms: found, Total: total}
	if len(found) == 0 {
		return page, nil
	}
	started := ask.After != (rooms.DirectoryPlace{})
	if more || ask.Backward {
		page.Next = batchToken(found[len(found)-1], false)
	}
	if more && ask.Backward || started && !ask.Backward {
		page.Prev = batchToken(found[0], true)
	}
	return page, nil
}

// batch is what a batch token says.
type batch struct {
	Joined   int64 `json:"j"`
	RoomNum  int64 `json:"r"`
	Backward bool  `json:"b,omitempty"`
}

func batchToken(at rooms.Published, backward bool) string {
	b, _ := json.Marshal(batch{at.Joined, at.RoomNum, backward}) // three numbers: cannot fail
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseBatch(token string) (rooms.DirectoryPlace, bool, error) {
	var b batch
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(raw, &b)
	}
	if err != nil {
		return rooms.DirectoryPlace{}, false, matrix.Errorf(matrix.InvalidParam, "\"since\" is not a token of this server")
	}
	return rooms.DirectoryPlace{Joined: b.Joined, RoomNum: b.RoomNum}, b.Backward, nil
}
