package matrix

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxIDBytes limits user IDs, room IDs, room aliases and event IDs, sigil and
// server name included.
const MaxIDBytes = 255

// hashIDBytes is the length of a SHA-256 sum in unpadded base64, which is what
// follows the sigil in newer event IDs and room IDs.
const hashIDBytes = 43

// UserID names a user: "@localpart:server".
//
// https://spec.matrix.org/v1.19/appendices/#user-identifiers
type UserID string

// ParseUserID checks s as other servers and old events may use it: historical
// localparts of any characters, even none, are accepted. [NewUserID] has the
// grammar for users that are created today.
//
// https://spec.matrix.org/v1.19/appendices/#historical-user-ids
func ParseUserID(s string) (UserID, error) {
	if !validServerID(s, '@') {
		return "", Errorf(InvalidParam, "%s is not a user ID", quote(s))
	}
	return UserID(s), nil
}

// NewUserID returns the ID of a user to be created on s. The localpart must
// keep to today's grammar: "a-z", "0-9", "._=-/+".
func NewUserID(localpart string, s ServerName) (UserID, error) {
	if localpart == "" {
		return "", Errorf(InvalidUsername, "a user name must not be empty")
	}
	if !consistsOf(localpart, isLocalpartByte) {
		return "", Errorf(InvalidUsername, "a user name consists of a-z, 0-9 and ._=-/+ only")
	}
	id := "@" + localpart + ":" + string(s)
	if len(id) > MaxIDBytes {
		return "", Errorf(InvalidUsername, "a user ID has at most %d bytes", MaxIDBytes)
	}
	return UserID(id), nil
}

// Localpart returns what stands between "@" and the server name.
func (id UserID) Localpart() string { return localpart(string(id)) }

// Server returns the server that the user belongs to.
func (id UserID) Server() ServerName { return server(string(id)) }

// IsCompliant reports whether the localpart is made of visible ASCII. Other
// user IDs are accepted in events, but should not be told to clients outside
// of one.
//
// https://spec.matrix.org/v1.19/appendices/#historical-user-ids
func (id UserID) IsCompliant() bool {
	l := id.Localpart()
	return l != "" && consistsOf(l, isVisible)
}

// RoomID names a room: "!localpart:server", or from room version 12 on "!" and
// the hash of the create event.
//
// https://spec.matrix.org/v1.19/appendices/#room-ids
type RoomID string

// ParseRoomID checks s, which may have either form.
func ParseRoomID(s string) (RoomID, error) {
	if !validServerID(s, '!') && !validHashID(s) {
		return "", Errorf(InvalidParam, "%s is not a room ID", quote(s))
	}
	return RoomID(s), nil
}

// Server returns the server that made the room, and false if the ID does not
// name it. The server need not be in the room any more.
func (id RoomID) Server() (ServerName, bool) {
	s := server(string(id))
	return s, s != ""
}

// RoomAlias is a readable name of a room: "#localpart:server".
//
// https://spec.matrix.org/v1.19/appendices/#room-aliases
type RoomAlias string

// ParseRoomAlias checks s against the grammar of aliases.
func ParseRoomAlias(s string) (RoomAlias, error) {
	if !validServerID(s, '#') || s[1] == ':' {
		return "", Errorf(InvalidParam, "%s is not a room alias", quote(s))
	}
	return RoomAlias(s), nil
}

// Localpart returns what stands between "#" and the server name.
func (a RoomAlias) Localpart() string { return localpart(string(a)) }

// Server returns the server that knows which room the alias points to.
func (a RoomAlias) Server() ServerName { return server(string(a)) }

// EventID names an event: "$localpart:server" in room versions 1 and 2, later
// "$" and a hash.
//
// https://spec.matrix.org/v1.19/appendices/#event-ids
type EventID string

// ParseEventID checks s for what all room versions have in common. It lets
// pass hashes of any length and alphabet: an ID that no room version makes is
// the ID of no event.
func ParseEventID(s string) (EventID, error) {
	if !validServerID(s, '$') && !validOpaqueEventID(s) {
		return "", Errorf(InvalidParam, "%s is not an event ID", quote(s))
	}
	return EventID(s), nil
}

// Server returns the server that chose the ID, and false if the ID is a hash.
func (id EventID) Server() (ServerName, bool) {
	s := server(string(id))
	return s, s != ""
}

func validOpaqueEventID(s string) bool {
	return len(s) > 1 && len(s) <= MaxIDBytes && s[0] == '$' &&
		consistsOf(s[1:], isVisible) && !strings.Contains(s, ":")
}

// validServerID checks for sigil, localpart, ":" and server name.
func validServerID(s string, sigil byte) bool {
	if len(s) == 0 || len(s) > MaxIDBytes || s[0] != sigil {
		return false
	}
	local, server, ok := strings.Cut(s[1:], ":")
	return ok && validText(local) && validServerName(server)
}

// validHashID checks for a sigil and a SHA-256 sum in URL-safe base64.
func validHashID(s string) bool {
	return len(s) == 1+hashIDBytes && s[0] == '!' && consistsOf(s[1:], isURLSafe)
}

// validText reports whether s is text without U+0000. Surrogates have no
// valid encoding in UTF-8.
func validText(s string) bool {
	return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

func localpart(id string) string {
	if id == "" {
		return ""
	}
	local, _, _ := strings.Cut(id[1:], ":")
	return local
}

func server(id string) ServerName {
	_, s, _ := strings.Cut(id, ":")
	return ServerName(s)
}

func isLocalpartByte(c byte) bool {
	return isDigit(c) || isLower(c) || strings.IndexByte("._=-/+", c) >= 0
}

func isURLSafe(c byte) bool { return isAlphanumeric(c) || c == '-' || c == '_' }

func isVisible(c byte) bool { return '!' <= c && c <= '~' }

// quote shows a refused identifier in an error, cut short if it is long.
func quote(s string) string {
	const most = 100
	if len(s) > most {
		return strconv.Quote(s[:most]) + "..."
	}
	return strconv.Quote(s)
}
