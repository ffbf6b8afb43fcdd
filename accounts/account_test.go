package accounts

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/users"
)

func TestChangePassword(t *testing.T) {
	each(t, func(w *world) { testChangePassword(w, false) })
	t.Run("keep sessions", func(t *testing.T) { testChangePassword(onSQLite(t), true) })
}

func testChangePassword(w *world, keep bool) {
	own, who := w.register("alice")
	other, err := w.login("alice", goodPassword)
	wantCode(w.t, "login", err, "")
	w.who(other)

	in := PasswordChange{NewPassword: "battery staple", KeepSessions: keep}
	c := wantChallenge(w.t, "no auth", w.ChangePassword(w.ctx, who, in), "")
	in.Auth = passwordAuth(c.Session, "alice", "battery staple")
	wantChallenge(w.t, "with the new password", w.ChangePassword(w.ctx, who, in), matrix.Forbidden)
	in.Auth = passwordAuth(c.Session, "alice", goodPassword)
	sly := in
	sly.NewPassword = "chosen by somebody else"
	wantCode(w.t, "another password in the same session", w.ChangePassword(w.ctx, who, sly), matrix.Forbidden)
	wantCode(w.t, "change", w.ChangePassword(w.ctx, who, in), "")

	w.who(own)
	if keep {
		w.who(other)
	} else {
		w.wantLoggedOut("the other session", other)
	}
	_, err = w.login("alice", goodPassword)
	wantCode(w.t, "login with the old one", err, matrix.Forbidden)
	_, err = w.login("alice", "battery staple")
	wantCode(w.t, "login with the new one", err, "")
	in.NewPassword = ""
	wantCode(w.t, "no password", w.ChangePassword(w.ctx, who, in), matrix.MissingParam)
	in.NewPassword = strings.Repeat("x", 513)
	wantCode(w.t, "long password", w.ChangePassword(w.ctx, who, in), matrix.InvalidParam)
}

func TestDeactivateAndErase(t *testing.T) {
	each(t, func(w *world) {
		s, who := w.register("alice")
		_, err := w.SetProfileField(w.ctx, who.Account, DisplayName, []byte(`"Alice"`))
		wantCode(w.t, "profile", err, "")
		wantCode(w.t, "account data", w.SetAccountData(w.ctx, who.Account, users.AccountDatum{Type: "a", Content: []byte(`{}`)}), "")
		filter, err := w.AddFilter(w.ctx, who.Account, []byte(`{}`))
		wantCode(w.t, "filter", err, "")

		c := wantChallenge(w.t, "no auth", w.Deactivate(w.ctx, who, true, nil), "")
		auth := passwordAuth(c.Session, "alice", goodPassword)
		wantCode(w.t, "without the erasure that was asked for", w.Deactivate(w.ctx, who, false, auth), matrix.Forbidden)
		before := w.db.Position()
		wantCode(w.t, "deactivate", w.Deactivate(w.ctx, who, true, auth), "")

		w.wantLoggedOut("afterwards", s)
		_, err = w.login("alice", goodPassword)
		wantCode(w.t, "login: the password is erased too", err, matrix.Forbidden)
		if p, err := w.Profile(w.ctx, who.Account); err != nil || len(p) != 0 {
			w.t.Errorf("profile: got %v, %v, want none", p, err)
		}
		_, err = w.AccountData(w.ctx, who.Account, "", "a")
		wantCode(w.t, "account data", err, matrix.NotFound)
		_, err = w.Filter(w.ctx, who.Account, filter)
		wantCode(w.t, "filter", err, matrix.NotFound)
		if news, complete := w.db.Since(before, 100); !complete || !slices.ContainsFunc(news, func(n storage.News) bool {
			return n.Kind == storage.NewsProfile && n.User == who.Account
		}) {
			w.t.Errorf("news: got %v, want that the profile changed", news)
		}
		u, err := w.User(w.ctx, who.Account)
		if err != nil || u.DeactivatedMS != w.nowMS() || !u.Erased || u.PasswordHash != "" {
			w.t.Errorf("user: got %+v, %v, want an erased one", u, err)
		}
	})
}

func TestDeactivateByTheAdministrator(t *testing.T) {
	each(t, func(w *world) {
		s, who := w.register("alice")
		first := w.nowMS()
		wantCode(w.t, "deactivate", w.DeactivateUser(w.ctx, who.Account, false), "")
		w.wantLoggedOut("afterwards", s)
		w.clock.Advance(1000)
		wantCode(w.t, "again, to erase", w.DeactivateUser(w.ctx, who.Account, true), "")
		if u, err := w.User(w.ctx, who.Account); err != nil || u.DeactivatedMS != first || !u.Erased {
			w.t.Errorf("user: got %+v, %v, want it deactivated at %d and erased", u, err, first)
		}
		wantCode(w.t, "unknown", w.DeactivateUser(w.ctx, "@bob:example.org", false), matrix.NotFound)
		wantCode(w.t, "new password", w.ResetPassword(w.ctx, who.Account, "x", false), matrix.NotFound)
		_, err := w.SetProfileField(w.ctx, who.Account, DisplayName, []byte(`"x"`))
		wantCode(w.t, "display name", err, matrix.NotFound)
	})
}

func TestAdministration(t *testing.T) {
	w := onSQLite(t)
	id, err := w.CreateUser(w.ctx, NewUser{Username: "Root", Password: goodPassword, Admin: true})
	if err != nil || id != "@root:example.org" {
		t.Fatalf("create: got %s, %v", id, err)
	}
	for _, c := range []struct {
		in   NewUser
		want matrix.ErrorCode
	}{
		{NewUser{Username: "root", Password: "x"}, matrix.UserInUse},
		{NewUser{Username: "", Password: "x"}, matrix.InvalidUsername},
		{NewUser{Username: "bob"}, matrix.MissingParam},
	} {
		_, err := w.CreateUser(w.ctx, c.in)
		wantCode(t, fmt.Sprintf("create %+v", c.in), err, c.want)
	}
	s, err := w.login("root", goodPassword)
	wantCode(t, "login", err, "")
	if !w.who(s).Admin {
		t.Error("root is no admin")
	}
	wantCode(t, "reset", w.ResetPassword(w.ctx, id, "another", true), "")
	w.wantLoggedOut("after the reset", s)
	_, err = w.login("root", "another")
	wantCode(t, "login with the new password", err, "")
	wantCode(t, "reset of nobody", w.ResetPassword(w.ctx, "@nobody:example.org", "x", true), matrix.NotFound)
	wantCode(t, "reset elsewhere", w.ResetPassword(w.ctx, "@root:example.com", "x", true), matrix.NotFound)
	wantCode(t, "reset to nothing", w.ResetPassword(w.ctx, id, "", true), matrix.MissingParam)
	_, err = w.User(w.ctx, "@nobody:example.org")
	wantCode(t, "nobody", err, matrix.NotFound)
}

func TestListUsers(t *testing.T) {
	each(t, func(w *world) {
		for _, name := range []string{"carol", "alice", "bob"} {
			w.register(name)
		}
		var got []string
		after := matrix.UserID("")
		for {
			page, err := w.Users(w.ctx, after, 2)
			if err != nil || len(page) > 2 {
				w.t.Fatalf("page: got %d users, %v, want at most 2", len(page), err)
			}
			if len(page) == 0 {
				break
			}
			for _, u := range page {
				got = append(got, u.ID.Localpart())
			}
			after = page[len(page)-1].ID
		}
		if want := "alice bob carol"; strings.Join(got, " ") != want {
			w.t.Errorf("users: got %v, want %s", got, want)
		}
		if one, err := w.Users(w.ctx, "", -5); err != nil || len(one) != 1 {
			w.t.Errorf("a page of -5: got %d, %v, want 1", len(one), err)
		}
	})
}
