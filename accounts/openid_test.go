package accounts

import (
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
)

func TestOpenIDToken(t *testing.T) {
	w := onSQLite(t)
	who := matrix.Requester{Account: "@alice:example.org", User: "@alice:example.org", Device: "D"}
	token, life, err := w.OpenIDToken(who)
	if err != nil || life <= 0 {
		t.Fatalf("got %v, %v, want a token with a life", life, err)
	}
	if user, err := w.OpenIDUser(token); err != nil || user != who.User {
		t.Errorf("the user of the token: got %s, %v, want %s", user, err, who.User)
	}
	_, err = w.Authenticate(w.ctx, token)
	wantCode(t, "as an access token", err, matrix.UnknownToken)
	for _, wrong := range []string{"", token + "x", "myo_"} {
		_, err := w.OpenIDUser(wrong)
		wantCode(t, "a wrong token", err, matrix.UnknownToken)
	}
	w.clock.Advance(life - time.Second)
	if _, err := w.OpenIDUser(token); err != nil {
		t.Errorf("before its end: got %v, want the user", err)
	}
	w.clock.Advance(time.Second)
	_, err = w.OpenIDUser(token)
	wantCode(t, "after its end", err, matrix.UnknownToken)
}
