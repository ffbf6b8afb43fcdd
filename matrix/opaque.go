package matrix

import "strings"

const (
	maxRoomVersionBytes = 32
	maxDeviceIDBytes    = 255
	maxOpaqueIDBytes    = 255
)

// RoomVersion names the rules of a room, such as "12".
//
// https://spec.matrix.org/v1.19/rooms/#room-version-grammar
type RoomVersion string

// ParseRoomVersion checks the grammar of s, not whether the version is known.
func ParseRoomVersion(s string) (RoomVersion, error) {
	if s == "" || len(s) > maxRoomVersionBytes || !consistsOf(s, isRoomVersionByte) {
		return "", Errorf(InvalidParam, "%s is not a room version", quote(s))
	}
	return RoomVersion(s), nil
}

// DeviceID names a device of one user. Clients may choose it.
//
// https://spec.matrix.org/v1.19/client-server-api/#relationship-between-access-tokens-and-devices
type DeviceID string

// ParseDeviceID checks s. The specification has no grammar for device IDs; it
// must be text that a database can hold, of a length that is bearable in every
// device list.
func ParseDeviceID(s string) (DeviceID, error) {
	if s == "" || len(s) > maxDeviceIDBytes || !validText(s) {
		return "", Errorf(InvalidParam, "%s is not a device ID", quote(s))
	}
	return DeviceID(s), nil
}

// ContentURI names a file in the media repository of a server.
//
// https://spec.matrix.org/v1.19/client-server-api/#matrix-content-mxc-uris
type ContentURI struct {
	Server  ServerName
	MediaID string
}

// ParseContentURI reads "mxc://server/media-id". A media ID has none of the
// characters that mean something in a path, so it may become part of one.
func ParseContentURI(s string) (ContentURI, error) {
	rest, isMXC := strings.CutPrefix(s, "mxc://")
	name, mediaID, _ := strings.Cut(rest, "/")
	if !isMXC || !validServerName(name) || !ValidMediaID(mediaID) {
		return ContentURI{}, Errorf(InvalidParam, "%s is not a content URI", quote(s))
	}
	return ContentURI{Server: ServerName(name), MediaID: mediaID}, nil
}

// String returns the URI.
func (u ContentURI) String() string {
	return "mxc://" + string(u.Server) + "/" + u.MediaID
}

// ValidMediaID reports whether s may be the media ID of a content URI.
func ValidMediaID(s string) bool {
	return s != "" && len(s) <= maxOpaqueIDBytes && consistsOf(s, isURLSafe)
}

// ValidOpaqueID reports whether s keeps to the grammar that many short-lived
// identifiers share, among them registration tokens, session IDs and client
// secrets.
//
// https://spec.matrix.org/v1.19/appendices/#opaque-identifiers
func ValidOpaqueID(s string) bool {
	return s != "" && len(s) <= maxOpaqueIDBytes && consistsOf(s, isUnreserved)
}

func isRoomVersionByte(c byte) bool {
	return isDigit(c) || isLower(c) || c == '.' || c == '-'
}

func isUnreserved(c byte) bool {
	return isAlphanumeric(c) || strings.IndexByte("._~-", c) >= 0
}
