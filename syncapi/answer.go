package syncapi

import (
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/view"
)

// answer gathers the parts of a response. Parts that stay empty are left out.
type answer struct {
	join, invite, knock, leave sections
	accountData, presence      list
	toDevice                   list
}

// sections are the rooms of one part of the answer.
type sections []section

type section struct {
	room  matrix.RoomID
	value []byte // a JSON object
}

func (s *sections) add(room matrix.RoomID, value []byte) { *s = append(*s, section{room, value}) }

// size is about how many bytes they take.
func (s sections) size() (n int) {
	const beside = 80 // a long room ID, quotes and punctuation
	for _, one := range s {
		n += len(one.value) + beside
	}
	return n
}

// appendTo writes them as a JSON object.
func (s sections) appendTo(dst []byte) []byte {
	dst = append(dst, '{')
	for i, one := range s {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = canonical.AppendString(dst, string(one.room))
		dst = append(dst, ':')
		dst = append(dst, one.value...)
	}
	return append(dst, '}')
}

// list are the items of a JSON array, without its brackets.
type list []byte

// next returns the list, ready for one more item to be appended.
func (l list) next() list {
	if len(l) > 0 {
		return append(l, ',')
	}
	return l
}

// something says whether there is anything to tell.
func (a *answer) something() bool {
	return len(a.join)+len(a.invite)+len(a.knock)+len(a.leave)+len(a.accountData)+len(a.presence)+len(a.toDevice) > 0
}

// body writes the whole response.
func (a *answer) body(token view.SyncToken) []byte {
	const beside = 256
	size := a.join.size() + a.invite.size() + a.knock.size() + a.leave.size()
	size += len(a.accountData) + len(a.presence) + len(a.toDevice)
	dst := append(make([]byte, 0, size+beside), `{"next_batch":"`...)
	dst = append(token.Append(dst), '"')
	dst = appendEvents(dst, "account_data", a.accountData)
	dst = appendEvents(dst, "presence", a.presence)
	dst = appendEvents(dst, "to_device", a.toDevice)
	if len(a.join)+len(a.invite)+len(a.knock)+len(a.leave) == 0 {
		return append(dst, '}')
	}
	dst = append(dst, `,"rooms":{`...)
	first := true
	for _, part := range []struct {
		name  string
		rooms sections
	}{{"join", a.join}, {"invite", a.invite}, {"knock", a.knock}, {"leave", a.leave}} {
		if len(part.rooms) == 0 {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = canonical.AppendString(dst, part.name)
		dst = part.rooms.appendTo(append(dst, ':'))
	}
	return append(dst, "}}"...)
}

// appendEvents writes a member {"events": [...]}, unless it is empty.
func appendEvents(dst []byte, name string, items list) []byte {
	if len(items) == 0 {
		return dst
	}
	dst = append(dst, ',')
	dst = canonical.AppendString(dst, name)
	dst = append(dst, `:{"events":[`...)
	dst = append(dst, items...)
	return append(dst, "]}"...)
}
