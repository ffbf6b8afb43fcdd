package accounts

import (
	"time"

	"github.com/myelin-chat/myelin/matrix"
)

const (
	openIDTokenPrefix = "myo_"
	openIDTokenLife   = time.Hour
	maxOpenIDTokens   = 100_000
)

// OpenIDToken lets whoever holds it learn the requester's user ID, and nothing else. It is kept in memory, so a restart
// ends it before its time.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3useruseridopenidrequest_token
func (a *Accounts) OpenIDToken(who matrix.Requester) (token string, life time.Duration, err error) {
	token, hash, err := a.newToken(openIDTokenPrefix)
	if err != nil {
		return "", 0, err
	}
	a.openIDs.add(string(hash[:]), who.User, a.settings.Now())
	return token, openIDTokenLife, nil
}

// OpenIDUser returns the user that an OpenID token was made for.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1openiduserinfo
func (a *Accounts) OpenIDUser(token string) (matrix.UserID, error) {
	hash := hashToken(token)
	user, ok := a.openIDs.get(string(hash[:]), a.settings.Now())
	if !ok {
		return "", matrix.Errorf(matrix.UnknownToken, "the OpenID token is unknown or has expired")
	}
	return user, nil
}
