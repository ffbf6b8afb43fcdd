package syncapi

import (
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/view"
)

// answer gathers the parts of a response. Parts that stay empty are left out.
type answer struct {
	join, invite, knock, leave members
	accountData, presence      list
}

// members are the members of a JSON object, without its braces.
type members []byte

func (m *members) add(room matrix.RoomID, value []byte) {
	if len(*m) > 0 {
		*m = append(*m, ',')
	}
	*m = canonical.AppendString(*m, string(room))
	*m = append(*m, ':')
	*m = append(*m, value...)
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
	return len(a.join)+len(a.invite)+len(a.knock)+len(a.leave)+len(a.accountData)+len(a.presence) > 0
}

// body writes the whole response.
func (a *answer) body(token view.SyncToken) []byte {
	size := len(a.join) + len(a.invite) + len(a.knock) + len(a.leave) + len(a.accountData) + len(a.presence)
	dst := append(make([]byte, 0, size+256), `{"next_batch":`...)
	dst = canonical.AppendString(dst, token.String())
	dst = appendEvents(dst, "account_data", a.accountData)
	dst = appendEvents(dst, "presence", a.presence)
	if len(a.join)+len(a.invite)+len(a.knock)+len(a.leave) == 0 {
		return append(dst, '}')
	}
	dst = append(dst, `,"rooms":{`...)
	first := true
	for _, section := range []struct {
		name string
		m    members
	}{{"join", a.join}, {"invite", a.invite}, {"knock", a.knock}, {"leave", a.leave}} {
		if len(section.m) == 0 {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = canonical.AppendString(dst, section.name)
		dst = append(dst, ":{"...)
		dst = append(dst, section.m...)
		dst = append(dst, '}')
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
