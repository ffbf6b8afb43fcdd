package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"slices"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// Profile is what a user tells of himself: a value for each field that he has. Nobody has checked their types.
type Profile map[string]json.RawMessage

// Profile asks for the profile of a user, of which server it is; field may be empty for all of it.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryprofile
func (c *Client) Profile(ctx context.Context, user matrix.UserID, field string) (Profile, error) {
	query := url.Values{"user_id": {string(user)}}
	if field != "" {
		query.Set("field", field)
	}
	var answer Profile
	err := c.answer(ctx, outbound.Call{
		To: user.Server(), URI: "/_matrix/federation/v1/query/profile?" + query.Encode(),
		MaxBytes: maxProfileBytes, Timeout: queryTimeout,
	}, &answer)
	if err != nil {
		return nil, err
	}
	// A field that is not set may be null.
	maps.DeleteFunc(answer, func(name string, value json.RawMessage) bool {
		return field != "" && name != field || bytes.Equal(value, []byte("null"))
	})
	return answer, nil
}

// AliasTarget is the room that an alias leads to, and servers that are in it. It is the answer of query/directory.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1querydirectory
type AliasTarget struct {
	RoomID  matrix.RoomID               `json:"room_id"`
	Servers Tolerant[matrix.ServerName] `json:"servers"`
}

// Alias asks the server of an alias where it leads.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1querydirectory
func (c *Client) Alias(ctx context.Context, alias matrix.RoomAlias) (AliasTarget, error) {
	var target AliasTarget
	err := c.answer(ctx, outbound.Call{
		To: alias.Server(), MaxBytes: maxAliasBytes, Timeout: queryTimeout,
		URI: "/_matrix/federation/v1/query/directory?" + url.Values{"room_alias": {string(alias)}}.Encode(),
	}, &target)
	if err != nil {
		return AliasTarget{}, err
	}
	if _, err := matrix.ParseRoomID(string(target.RoomID)); err != nil {
		return AliasTarget{}, badOf(alias.Server(), err)
	}
	target.Servers = slices.DeleteFunc(target.Servers, func(s matrix.ServerName) bool {
		_, err := matrix.ParseServerName(string(s))
		return err != nil
	})
	target.Servers = target.Servers[:min(len(target.Servers), maxAliasServers)]
	return target, nil
}

// UserInfo is the answer to an OpenID token. We are never the one who asks.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1openiduserinfo
type UserInfo struct {
	Subject matrix.UserID `json:"sub"`
}

// VersionResponse is the answer of version.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1version
type VersionResponse struct {
	Server Implementation `json:"server"`
}

// Implementation is the software that a server runs, as it says.
type Implementation struct {
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"`
}

// Version asks what software a server runs.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1version
func (c *Client) Version(ctx context.Context, of matrix.ServerName) (Implementation, error) {
	var answer VersionResponse
	err := c.answer(ctx, outbound.Call{
		To: of, URI: "/_matrix/federation/v1/version", Unsigned: true, MaxBytes: maxSmallBytes, Timeout: queryTimeout,
	}, &answer)
	return answer.Server, err
}
