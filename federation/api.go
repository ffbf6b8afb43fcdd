package federation

import (
	"github.com/myelin-chat/myelin/federation/history"
	"github.com/myelin-chat/myelin/federation/intake"
	"github.com/myelin-chat/myelin/federation/membership"
	"github.com/myelin-chat/myelin/federation/query"
	"github.com/myelin-chat/myelin/federation/spaces"
	"github.com/myelin-chat/myelin/httpapi"
)

// API is all that other servers call. Each part lists its endpoints in its method Routes.
type API struct {
	Query      *query.API      // keys, users, the directory
	History    *history.API    // events of rooms
	Spaces     *spaces.API     // what is in a space
	Membership *membership.API // joins, leaves, knocks, invites
	Intake     *intake.API     // transactions
}

// Routes adds the endpoints of all parts.
func (a API) Routes(r *httpapi.Router) {
	a.Query.Routes(r)
	a.History.Routes(r)
	a.Spaces.Routes(r)
	a.Membership.Routes(r)
	a.Intake.Routes(r)
}
