// Package httpapi is what every HTTP API of the server shares: routing, authentication, rate limits, bodies, answers,
// errors, CORS, the log line, metrics, and the listeners.
//
// An endpoint is a function from a request type to an answer type:
//
//	func (a *API) join(ctx context.Context, c *httpapi.Call, in *joinRequest) (*joinResponse, error)
//
// and a line in a route table, where a reviewer sees who may call it and how often:
//
//	r.Post("/_matrix/client/v3/rooms/{roomID}/join", httpapi.Authed(a.auth, a.limits.Join, a.join))
//
// For each request, in this order: the route is found, CORS headers are set, the access token is looked up, the rate
// limit is asked, the body is read and decoded, the handler runs, its answer or error is written, and the request is
// counted and logged. Nothing of a body is read for a caller who is not let in.
//
// # Paths
//
// Routes match the path as it was sent, still encoded, so that %2F within a room alias or a state key does not end the
// segment. [Call.Path] decodes, exactly once. A pattern with a trailing slash and one without are two routes.
//
// # Addresses
//
// The address of a client is that of its connection. Only if that is a loopback address or one of
// [Settings.TrustedProxies] is X-Forwarded-For believed, read from its end: proxies that are trusted are passed over,
// and the first address that is not, is the client. What stands before it was written by the client and means nothing.
//
// # What is left out
//
// Answers are not compressed. Gzip costs some 20 µs a kB, more than most requests cost in all, and 40 kB of memory or
// more for each answer under way; a proxy in front does it where bandwidth is dearer than processor time.
//
// A handler may take as long as it likes, since it may be a long poll. It is the client that is held to time: for its
// headers, for its body, and for taking each megabyte of an answer.
package httpapi
