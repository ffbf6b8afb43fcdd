package accounts

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/users"
)

// Challenge is the error of a request that needs user-interactive authentication: its JSON is the body, with status
// 401. It has an error code only if a stage was tried and failed.
// https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api
type Challenge struct {
	Code      matrix.ErrorCode `json:"errcode,omitempty"`
	Message   string           `json:"error,omitempty"`
	Completed []string         `json:"completed,omitempty"`
	Flows     []Flow           `json:"flows"`
	Params    struct{}         `json:"params"` // no stage of ours has any
	Session   string           `json:"session"`
}

// Flow is a row of stages that together authenticate a request.
type Flow struct {
	Stages []string `json:"stages"`
}

// Error implements error.
func (c *Challenge) Error() string { return "more authentication is needed" }

// Status is the HTTP status of the answer.
func (c *Challenge) Status() int { return 401 }

const (
	// maxSessions bounds how many requests may be waiting for authentication, of accounts and of people without one
	// separately: strangers cannot push out the users.
	maxSessions = 10_000
	// sessionLife is how long they may take.
	sessionLife = 30 * time.Minute
)

// sessions are the requests that wait for their authentication.
type sessions struct {
	strangers *expiring[interaction]
	users     *expiring[interaction]
	secret    []byte // keys the hashes of parameters
}

func newSessions(secret []byte) sessions {
	return sessions{
		strangers: newExpiring[interaction](maxSessions, sessionLife),
		users:     newExpiring[interaction](maxSessions, sessionLife),
		secret:    secret,
	}
}

// of returns the table for requests of user, who may be nobody.
func (s sessions) of(user matrix.UserID) *expiring[interaction] {
	if user == "" {
		return s.strangers
	}
	return s.users
}

// interaction is one request on its way through its stages. It is bound to what was asked for, of which only keyed
// hashes are kept: parameters may be passwords. Clients that begin without any parameters, only to see the flows, are
// bound by the request that has some.
type interaction struct {
	operation digest // what is to be done, by whom
	params    digest // the parameters; zero: none
	completed []string
	token     string // the registration token that was given
}

// operation is a request that needs authentication.
type operation struct {
	name   string
	user   matrix.UserID // whose request; empty: of somebody without an account
	params any           // what it asks for; nil: nothing in particular
	flows  []Flow
}

type digest [sha256.Size]byte

func (s sessions) begin(op operation) interaction {
	now := interaction{operation: s.digest([]any{op.name, op.user})}
	if op.params != nil {
		now.params = s.digest(op.params)
	}
	return now
}

func (s sessions) digest(v any) digest {
	mac := hmac.New(sha256.New, s.secret)
	if err := json.NewEncoder(mac).Encode(v); err != nil {
		panic(err) // strings, lists and booleans: cannot fail
	}
	return digest(mac.Sum(nil))
}

// begins says whether other may be a later request of the interaction that i is stored for.
func (i interaction) begins(other interaction) bool {
	return i.operation == other.operation && (i.params == digest{} || i.params == other.params)
}

// authDict is the auth member of a request.
type authDict struct {
	Type       string          `json:"type"`
	Session    string          `json:"session"`
	Identifier json.RawMessage `json:"identifier"`
	User       string          `json:"user"`
	Password   string          `json:"password"`
	Token      string          `json:"token"`
}

// parseAuth reads the auth member, nil if there is none.
func parseAuth(raw json.RawMessage) (*authDict, error) {
	if absent(raw) {
		return nil, nil
	}
	var auth *authDict
	if err := json.Unmarshal(raw, &auth); err != nil {
		return nil, matrix.Errorf(matrix.BadJSON, "auth: not an authentication object")
	}
	return auth, nil
}

// confirm asks who makes a request for their password. Of op it takes the name and the parameters.
func (a *Accounts) confirm(ctx context.Context, who matrix.Requester, op operation, auth json.RawMessage) error {
	op.user, op.flows = who.Account, []Flow{{[]string{TypePassword}}}
	_, err := a.interact(ctx, op, auth)
	return err
}

// interact returns what the stages of a completed flow gave, or a Challenge if there are stages left. A completed
// interaction is used up. As in other servers, a first request may carry the only stage without a session.
func (a *Accounts) interact(ctx context.Context, op operation, rawAuth json.RawMessage) (interaction, error) {
	auth, err := parseAuth(rawAuth)
	if err != nil {
		return interaction{}, err
	}
	now := a.sessions.begin(op)
	if auth == nil {
		return interaction{}, a.challenge(op, now, nil)
	}
	if auth.Session != "" {
		stored, ok := a.sessions.of(op.user).get(auth.Session, a.settings.Now())
		if !ok {
			return interaction{}, a.challenge(op, now, matrix.Errorf(matrix.Unknown, "the session has expired; begin again"))
		}
		if !stored.begins(now) {
			return interaction{}, matrix.Errorf(matrix.Forbidden, "the session was begun for another request")
		}
		now.completed, now.token = stored.completed, stored.token
	}
	next, err := a.tryStage(ctx, op, now, auth)
	if err != nil {
		return interaction{}, a.refuseStage(op, now, auth.Session, err)
	}
	return a.settle(op, next, auth.Session)
}

// tryStage returns the interaction with the stage that auth completes. A stage that is complete is not tried again.
func (a *Accounts) tryStage(ctx context.Context, op operation, now interaction, auth *authDict) (interaction, error) {
	if auth.Type == "" || slices.Contains(now.completed, auth.Type) {
		return now, nil
	}
	if !expected(op.flows, now.completed, auth.Type) {
		return now, matrix.Errorf(matrix.Unrecognized, "%q is not a stage that comes next", auth.Type)
	}
	var err error
	switch auth.Type {
	case TypePassword:
		err = a.checkOwnPassword(ctx, op.user, auth)
	case TypeRegistrationToken:
		err = a.checkRegistrationToken(ctx, auth.Token)
		now.token = auth.Token
	}
	if err != nil {
		return now, err
	}
	now.completed = append(slices.Clone(now.completed), auth.Type)
	return now, nil
}

// checkOwnPassword is the password stage: of the requester, not of anybody.
func (a *Accounts) checkOwnPassword(ctx context.Context, user matrix.UserID, auth *authDict) error {
	name, err := parseIdentifier(auth.Identifier, auth.User)
	if err != nil {
		return err
	}
	if named := a.userID(name); named != user && a.userID(asciiLower(name)) != user {
		return fatal{matrix.Errorf(matrix.Forbidden, "only %s can confirm this request", user)}
	}
	_, err = a.verifyPassword(ctx, func() (users.User, bool, error) { return users.ByID(ctx, a.db, user) }, auth.Password)
	return err
}

// fatal marks the error of a stage that trying again does not help.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// refuseStage makes the answer to a stage that failed: a Challenge where another try makes sense.
func (a *Accounts) refuseStage(op operation, now interaction, session string, err error) error {
	var stop fatal
	if errors.As(err, &stop) {
		return stop.error
	}
	var reason *matrix.Error
	if !errors.As(err, &reason) || reason.Code == matrix.LimitExceeded || reason.Status() >= 500 {
		return err
	}
	if session == "" {
		return a.challenge(op, now, reason)
	}
	return challengeIn(session, op, now, reason)
}

// settle records a completed stage, and ends the interaction if it was the last.
func (a *Accounts) settle(op operation, next interaction, session string) (interaction, error) {
	done := complete(op.flows, next.completed)
	if session == "" {
		if done {
			return next, nil
		}
		return interaction{}, a.challenge(op, next, nil)
	}
	stillThere := a.sessions.of(op.user).change(session, a.settings.Now(), func(interaction) (interaction, bool) {
		return next, !done
	})
	switch {
	case !stillThere: // used up by the same request, sent twice
		next.completed = nil
		return interaction{}, a.challenge(op, next, matrix.Errorf(matrix.Unknown, "the session has ended; begin again"))
	case done:
		return next, nil
	}
	return interaction{}, challengeIn(session, op, next, nil)
}

// challenge begins a session.
func (a *Accounts) challenge(op operation, now interaction, reason *matrix.Error) error {
	session, err := a.randomText(secretBytes)
	if err != nil {
		return err
	}
	a.sessions.of(op.user).add(session, now, a.settings.Now())
	return challengeIn(session, op, now, reason)
}

func challengeIn(session string, op operation, now interaction, reason *matrix.Error) *Challenge {
	c := &Challenge{Flows: op.flows, Completed: now.completed, Session: session}
	if reason != nil {
		c.Code, c.Message = reason.Code, reason.Message
	}
	return c
}

// expected says whether stage may follow the completed ones in any flow.
func expected(flows []Flow, completed []string, stage string) bool {
	return slices.ContainsFunc(flows, func(f Flow) bool {
		n := len(completed)
		return n < len(f.Stages) && slices.Equal(f.Stages[:n], completed) && f.Stages[n] == stage
	})
}

// complete says whether the completed stages are a whole flow.
func complete(flows []Flow, completed []string) bool {
	return slices.ContainsFunc(flows, func(f Flow) bool { return slices.Equal(f.Stages, completed) })
}
