package clientapi

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

type capabilitiesResponse struct {
	Capabilities capabilities `json:"capabilities"`
}

type capabilities struct {
	RoomVersions   roomVersions `json:"m.room_versions"`
	ChangePassword enabled      `json:"m.change_password"`
	SetDisplayName enabled      `json:"m.set_displayname"`
	SetAvatarURL   enabled      `json:"m.set_avatar_url"`
	ProfileFields  enabled      `json:"m.profile_fields"`
	ThreePIDs      enabled      `json:"m.3pid_changes"`
	GetLoginToken  enabled      `json:"m.get_login_token"`
}

type enabled struct {
	Enabled bool `json:"enabled"`
}

type roomVersions struct {
	Default   matrix.RoomVersion            `json:"default"`
	Available map[matrix.RoomVersion]string `json:"available"`
}

// capabilities tells what the caller can do here.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3capabilities
func (a *API) capabilities(context.Context, *httpapi.Call, *httpapi.None) (*capabilitiesResponse, error) {
	yes := enabled{true}
	return &capabilitiesResponse{capabilities{
		RoomVersions:   roomVersions{Default: a.roomVersion, Available: stabilities()},
		ChangePassword: yes, SetDisplayName: yes, SetAvatarURL: yes, ProfileFields: yes, GetLoginToken: yes,
		ThreePIDs: enabled{false},
	}}, nil
}

// stabilities has every version that this server can take part in, not only those it would make rooms of.
func stabilities() map[matrix.RoomVersion]string {
	available := map[matrix.RoomVersion]string{}
	for _, v := range event.Versions() {
		available[v.ID] = "unstable"
		if v.Stable {
			available[v.ID] = "stable"
		}
	}
	return available
}
