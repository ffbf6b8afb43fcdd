package clientapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

// Routes lists the endpoints of the API.
//
// Each line says who may call: everybody (httpapi.Open), users with an account (user), guests too (guest); and which
// limit binds them. Lines of r are served as they stand; lines of both are served below r0 too.
func (a *API) Routes(r *httpapi.Router) {
	a.serverRoutes(r)
	a.sessionRoutes(r)
	a.userRoutes(r)
	a.roomRoutes(r)
	a.timelineRoutes(r)
	a.directoryRoutes(r)
}

// serverRoutes is what the server says of itself.
func (a *API) serverRoutes(r *httpapi.Router) {
	both, limits := alsoR0{r}, a.limits

	r.Get("/.well-known/matrix/client", httpapi.Open(limits.Read, a.wellKnownForClients))
	r.Get("/.well-known/matrix/server", httpapi.Open(limits.Read, a.wellKnownForServers))
	r.Get("/_matrix/client/versions", httpapi.Open(limits.Read, a.versions))

	both.Get("/_matrix/client/v3/capabilities", user(a, limits.Read, a.capabilities))
	both.Get("/_matrix/client/v3/thirdparty/protocols", user(a, limits.Read, a.protocols))
	both.Get("/_matrix/client/v3/voip/turnServer", user(a, limits.Read, a.turnServer))
}

// sessionRoutes is about accounts, sessions and devices. What tries a password or a token has the limit of logins.
func (a *API) sessionRoutes(r *httpapi.Router) {
	both, limits := alsoR0{r}, a.limits

	both.Get("/_matrix/client/v3/login", httpapi.Open(limits.Read, a.loginFlows))
	both.Post("/_matrix/client/v3/login", httpapi.Open(limits.Login, a.login))
	r.Post("/_matrix/client/v1/login/get_token", user(a, limits.Login, a.loginToken))
	both.Post("/_matrix/client/v3/logout", user(a, limits.Write, a.logout))
	both.Post("/_matrix/client/v3/logout/all", user(a, limits.Write, a.logoutAll))

	both.Post("/_matrix/client/v3/register", httpapi.Open(limits.Register, a.register))
	both.Get("/_matrix/client/v3/register/available", httpapi.Open(limits.Register, a.available))
	r.Get("/_matrix/client/v1/register/m.login.registration_token/validity",
		httpapi.Open(limits.Login, a.registrationTokenValidity))

	both.Get("/_matrix/client/v3/account/whoami", guest(a, limits.Read, a.whoami))
	both.Get("/_matrix/client/v3/account/3pid", user(a, limits.Read, a.threePIDs))
	both.Post("/_matrix/client/v3/account/password", user(a, limits.Login, a.changePassword))
	both.Post("/_matrix/client/v3/account/deactivate", user(a, limits.Login, a.deactivate))

	both.Get("/_matrix/client/v3/devices", guest(a, limits.Read, a.devices))
	both.Get("/_matrix/client/v3/devices/{deviceID}", guest(a, limits.Read, a.device))
	both.Put("/_matrix/client/v3/devices/{deviceID}", guest(a, limits.Write, a.updateDevice))
	both.Delete("/_matrix/client/v3/devices/{deviceID}", user(a, limits.Login, a.deleteDevice))
	both.Post("/_matrix/client/v3/delete_devices", user(a, limits.Login, a.deleteDevices))
}

// userRoutes is what users keep here, and show of themselves.
func (a *API) userRoutes(r *httpapi.Router) {
	both, limits := alsoR0{r}, a.limits

	both.Get("/_matrix/client/v3/profile/{userID}", httpapi.Open(limits.Read, a.profile))
	both.Get("/_matrix/client/v3/profile/{userID}/{field}", httpapi.Open(limits.Read, a.profileField))
	both.Put("/_matrix/client/v3/profile/{userID}/{field}", guest(a, limits.Write, a.setProfileField))
	both.Delete("/_matrix/client/v3/profile/{userID}/{field}", guest(a, limits.Write, a.deleteProfileField))

	both.Get("/_matrix/client/v3/presence/{userID}/status", user(a, limits.Ephemeral, a.presence))
	both.Put("/_matrix/client/v3/presence/{userID}/status", user(a, limits.Ephemeral, a.setPresence))

	both.Get("/_matrix/client/v3/user/{userID}/account_data/{type}", user(a, limits.Read, a.accountData))
	both.Put("/_matrix/client/v3/user/{userID}/account_data/{type}", user(a, limits.Write, a.setAccountData))
	both.Get("/_matrix/client/v3/user/{userID}/rooms/{roomID}/account_data/{type}",
		user(a, limits.Read, a.roomAccountData))
	both.Put("/_matrix/client/v3/user/{userID}/rooms/{roomID}/account_data/{type}",
		user(a, limits.Write, a.setRoomAccountData))

	both.Put("/_matrix/client/v3/sendToDevice/{eventType}/{txnID}",
		httpapi.MaxBody(maxToDeviceBody, guest(a, limits.Write, a.sendToDevice)))

	both.Post("/_matrix/client/v3/user/{userID}/openid/request_token", user(a, limits.Write, a.openIDToken))

	both.Post("/_matrix/client/v3/user/{userID}/filter", user(a, limits.Write, a.addFilter))
	both.Get("/_matrix/client/v3/user/{userID}/filter/{filterID}", user(a, limits.Read, a.filter))

	both.Get("/_matrix/client/v3/pushrules/", user(a, limits.Read, a.pushRules))
	both.Get("/_matrix/client/v3/pushrules/global/", user(a, limits.Read, a.globalPushRules))
	both.Get("/_matrix/client/v3/pushrules/global/{kind}/{ruleID}", user(a, limits.Read, a.pushRule))
	both.Get("/_matrix/client/v3/pushrules/global/{kind}/{ruleID}/enabled", user(a, limits.Read, a.pushRuleEnabled))
	both.Get("/_matrix/client/v3/pushrules/global/{kind}/{ruleID}/actions", user(a, limits.Read, a.pushRuleActions))
}

// AdminRoutes lists the endpoints for programs of the operator, which a listener may leave out. Who knows the shared
// secret may make accounts faster than the world.
func (a *API) AdminRoutes(r *httpapi.Router) {
	r.Get("/_synapse/admin/v1/register", httpapi.Open(a.limits.Admin, a.registrationNonce))
	r.Post("/_synapse/admin/v1/register", httpapi.Open(a.limits.Admin, a.registerWithSharedSecret))
}

// roomRoutes is about rooms as a whole, and who is in them.
// https://spec.matrix.org/v1.19/client-server-api/#guest-access says what guests may do. They enter rooms by both ways, though only
// one is listed: clients know the other alone.
func (a *API) roomRoutes(r *httpapi.Router) {
	both, limits := alsoR0{r}, a.limits

	both.Post("/_matrix/client/v3/createRoom", user(a, limits.CreateRoom, a.createRoom))
	both.Post("/_matrix/client/v3/join/{roomIDOrAlias}", guest(a, limits.Join, a.join))
	both.Post("/_matrix/client/v3/knock/{roomIDOrAlias}", user(a, limits.Join, a.knock))
	both.Post("/_matrix/client/v3/rooms/{roomID}/join", guest(a, limits.Join, a.joinByID))
	both.Post("/_matrix/client/v3/rooms/{roomID}/invite", user(a, limits.Invite, a.invite))
	both.Post("/_matrix/client/v3/rooms/{roomID}/leave", guest(a, limits.Write, a.leave))
	both.Post("/_matrix/client/v3/rooms/{roomID}/forget", user(a, limits.Write, a.forget))
	both.Post("/_matrix/client/v3/rooms/{roomID}/kick", user(a, limits.Write, a.kick))
	both.Post("/_matrix/client/v3/rooms/{roomID}/ban", user(a, limits.Write, a.ban))
	both.Post("/_matrix/client/v3/rooms/{roomID}/unban", user(a, limits.Write, a.unban))

	both.Get("/_matrix/client/v3/joined_rooms", user(a, limits.Read, a.joinedRooms))
	both.Get("/_matrix/client/v3/rooms/{roomID}/members", guest(a, limits.Read, a.members))
	both.Get("/_matrix/client/v3/rooms/{roomID}/joined_members", user(a, limits.Read, a.joinedMembers))
}

// timelineRoutes is about the events and the state of rooms, and what users say of them.
func (a *API) timelineRoutes(r *httpapi.Router) {
	both, limits := alsoR0{r}, a.limits

	both.Put("/_matrix/client/v3/rooms/{roomID}/send/{eventType}/{txnID}", guest(a, limits.Send, a.send))
	both.Put("/_matrix/client/v3/rooms/{roomID}/redact/{eventID}/{txnID}", user(a, limits.Send, a.redact))
	both.Put("/_matrix/client/v3/rooms/{roomID}/state/{eventType}", guest(a, limits.Send, a.setStateNoKey))
	both.Put("/_matrix/client/v3/rooms/{roomID}/state/{eventType}/", guest(a, limits.Send, a.setStateNoKey))
	both.Put("/_matrix/client/v3/rooms/{roomID}/state/{eventType}/{stateKey}", guest(a, limits.Send, a.setState))

	both.Get("/_matrix/client/v3/rooms/{roomID}/state", guest(a, limits.Read, a.wholeState))
	both.Get("/_matrix/client/v3/rooms/{roomID}/state/{eventType}", guest(a, limits.Read, a.stateEventNoKey))
	both.Get("/_matrix/client/v3/rooms/{roomID}/state/{eventType}/", guest(a, limits.Read, a.stateEventNoKey))
	both.Get("/_matrix/client/v3/rooms/{roomID}/state/{eventType}/{stateKey}", guest(a, limits.Read, a.stateEvent))
	both.Get("/_matrix/client/v3/rooms/{roomID}/event/{eventID}", guest(a, limits.Read, a.event))
	both.Get("/_matrix/client/v3/rooms/{roomID}/context/{eventID}", guest(a, limits.Read, a.context))
	both.Get("/_matrix/client/v3/rooms/{roomID}/messages", guest(a, limits.Read, a.messages))
	r.Get("/_matrix/client/v1/rooms/{roomID}/timestamp_to_event", user(a, limits.Read, a.timestampToEvent))

	both.Post("/_matrix/client/v3/rooms/{roomID}/receipt/{receiptType}/{eventID}", user(a, limits.Ephemeral, a.receipt))
	both.Post("/_matrix/client/v3/rooms/{roomID}/read_markers", user(a, limits.Ephemeral, a.readMarkers))
	both.Put("/_matrix/client/v3/rooms/{roomID}/typing/{userID}", user(a, limits.Ephemeral, a.typing))
}

// directoryRoutes is about finding rooms.
func (a *API) directoryRoutes(r *httpapi.Router) {
	both, limits := alsoR0{r}, a.limits

	both.Get("/_matrix/client/v3/publicRooms", httpapi.Open(limits.Read, a.publicRooms))
	both.Post("/_matrix/client/v3/publicRooms", user(a, limits.Read, a.searchPublicRooms))
	both.Get("/_matrix/client/v3/directory/list/room/{roomID}", httpapi.Open(limits.Read, a.visibility))
	both.Put("/_matrix/client/v3/directory/list/room/{roomID}", user(a, limits.Write, a.setVisibility))
	both.Get("/_matrix/client/v3/directory/room/{roomAlias}", httpapi.Open(limits.Read, a.alias))
	both.Put("/_matrix/client/v3/directory/room/{roomAlias}", user(a, limits.Write, a.setAlias))
	both.Delete("/_matrix/client/v3/directory/room/{roomAlias}", user(a, limits.Write, a.deleteAlias))
	both.Get("/_matrix/client/v3/rooms/{roomID}/aliases", user(a, limits.Read, a.aliases))
}

// user makes an endpoint for users with an account; guests are refused.
// https://spec.matrix.org/v1.19/client-server-api/#guest-access
func user[In, Out any](a *API, l *httpapi.Limit, h handler[In, Out]) http.HandlerFunc {
	return guest(a, l, func(ctx context.Context, c *httpapi.Call, in *In) (*Out, error) {
		if c.Guest {
			return nil, matrix.Errorf(matrix.GuestAccessForbidden, "guests cannot do this")
		}
		return h(ctx, c, in)
	})
}

// guest makes an endpoint for users and guests. It notes that their device is in use.
func guest[In, Out any](a *API, l *httpapi.Limit, h handler[In, Out]) http.HandlerFunc {
	return httpapi.Authed(a.accounts, l, func(ctx context.Context, c *httpapi.Call, in *In) (*Out, error) {
		a.accounts.Seen(c.Requester, c.IP())
		return h(ctx, c, in)
	})
}

// handler is one endpoint, as httpapi has them.
type handler[In, Out any] = func(context.Context, *httpapi.Call, *In) (*Out, error)

// alsoR0 lists routes below v3 a second time under r0, the name of v3 before version 1.1 of the specification. Bots and
// older clients still use it.
// https://spec.matrix.org/v1.19/client-server-api/#api-versions
type alsoR0 struct{ r *httpapi.Router }

// Get routes GET and HEAD.
func (b alsoR0) Get(pattern string, h http.HandlerFunc) {
	b.r.Get(pattern, h)
	b.r.Get(underR0(pattern), h)
}

// Post routes POST.
func (b alsoR0) Post(pattern string, h http.HandlerFunc) {
	b.r.Post(pattern, h)
	b.r.Post(underR0(pattern), h)
}

// Put routes PUT.
func (b alsoR0) Put(pattern string, h http.HandlerFunc) {
	b.r.Put(pattern, h)
	b.r.Put(underR0(pattern), h)
}

// Delete routes DELETE.
func (b alsoR0) Delete(pattern string, h http.HandlerFunc) {
	b.r.Delete(pattern, h)
	b.r.Delete(underR0(pattern), h)
}

func underR0(pattern string) string { return strings.Replace(pattern, "/v3/", "/r0/", 1) }
