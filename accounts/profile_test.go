package accounts

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/users"
)

func TestProfile(t *testing.T) {
	each(t, func(w *world) {
		s, _ := w.register("alice")
		for i, c := range []struct {
			field, value string // no value: delete
			changed      bool
		}{
			{DisplayName, `"Alice"`, true}, {DisplayName, ` "Alice" `, false}, {DisplayName, `"A\u0000"`, true},
			{AvatarURL, `"mxc://example.org/a"`, true}, {"m.tz", `"Europe/London"`, true},
			{"org.example.x", `{"b":[1.5,null],"a":0}`, true}, {"org.example.y", `null`, true}, {"org.example.y", `null`, false},
			{AvatarURL, `""`, true}, {AvatarURL, `""`, false}, {"m.tz", ``, true}, {"m.tz", ``, false},
		} {
			var changed bool
			var err error
			if c.value == "" {
				changed, err = w.DeleteProfileField(w.ctx, s.User, c.field)
			} else {
				changed, err = w.SetProfileField(w.ctx, s.User, c.field, json.RawMessage(c.value))
			}
			if changed != c.changed || err != nil {
				w.t.Errorf("%d: %s to %s: got %v, %v, want %v", i, c.field, c.value, changed, err, c.changed)
			}
		}
		want := `{"displayname":"A\u0000","org.example.x":{"a":0,"b":[1.5,null]},"org.example.y":null}`
		profile, err := w.Profile(w.ctx, s.User)
		if got, _ := json.Marshal(profile); string(got) != want || err != nil {
			w.t.Errorf("profile: got %s, %v, want %s", got, err, want)
		}
		if v, err := w.ProfileField(w.ctx, s.User, "org.example.y"); string(v) != "null" || err != nil {
			w.t.Errorf("field: got %s, %v, want null", v, err)
		}
		_, err = w.ProfileField(w.ctx, s.User, AvatarURL)
		wantCode(w.t, "removed field", err, matrix.NotFound)
	})
}

func TestProfileOfNobody(t *testing.T) {
	w := onSQLite(t)
	s, _ := w.register("alice")
	if p, err := w.Profile(w.ctx, s.User); err != nil || p == nil || len(p) != 0 {
		t.Errorf("of who set nothing: got %v, %v, want an empty one", p, err)
	}
	for _, user := range []matrix.UserID{"@bob:example.org", "@alice:example.com"} {
		_, err := w.Profile(w.ctx, user)
		wantCode(t, string(user), err, matrix.NotFound)
		_, err = w.ProfileField(w.ctx, user, DisplayName)
		wantCode(t, "field of "+string(user), err, matrix.NotFound)
	}
}

func TestProfileRefusals(t *testing.T) {
	w := onSQLite(t)
	s, _ := w.register("alice")
	for _, c := range []struct {
		field, value string
		want         matrix.ErrorCode
	}{
		{DisplayName, `1`, matrix.BadJSON},
		{DisplayName, `null`, matrix.BadJSON},
		{DisplayName, `"` + strings.Repeat("ä", 257) + `"`, matrix.InvalidParam},
		{DisplayName, `"` + strings.Repeat("ä", 256) + `"`, ""},
		{AvatarURL, `{}`, matrix.BadJSON},
		{AvatarURL, `"` + strings.Repeat("x", 1001) + `"`, matrix.InvalidParam},
		{"m.tz", `1`, matrix.BadJSON},
		{"org.example", `{`, matrix.NotJSON},
		{"org.example", ``, matrix.NotJSON},
		{"org.example", `"` + strings.Repeat("x", 1<<16) + `"`, matrix.ProfileTooLarge},
		{strings.Repeat("a", 256), `1`, matrix.KeyTooLarge},
		{strings.Repeat("a", 255), `1`, ""},
		{"", `1`, matrix.InvalidParam},
		{"Upper", `1`, matrix.InvalidParam},
		{"1a", `1`, matrix.InvalidParam},
		{"a b", `1`, matrix.InvalidParam},
		{"aé", `1`, matrix.InvalidParam},
	} {
		_, err := w.SetProfileField(w.ctx, s.User, c.field, json.RawMessage(c.value))
		wantCode(t, fmt.Sprintf("%.40s to %.40s", c.field, c.value), err, c.want)
	}
	_, err := w.DeleteProfileField(w.ctx, s.User, "Upper")
	wantCode(t, "delete", err, matrix.InvalidParam)
}

// The limit is on the profile as JSON: {"a":"..."} of 65,535 bytes fits, one more does not.
func TestAProfileStaysUnderItsLimit(t *testing.T) {
	each(t, func(w *world) {
		s, _ := w.register("alice")
		set := func(field string, size int) error {
			_, err := w.SetProfileField(w.ctx, s.User, field, json.RawMessage(`"`+strings.Repeat("x", size)+`"`))
			return err
		}
		wantCode(w.t, "first", set("org.a", 30_000), "")
		wantCode(w.t, "too much together", set("org.b", 36_000), matrix.ProfileTooLarge)
		wantCode(w.t, "less", set("org.b", 34_000), "")
		wantCode(w.t, "in place of itself", set("org.b", 35_000), "")
		_, err := w.DeleteProfileField(w.ctx, s.User, "org.a")
		wantCode(w.t, "delete", err, "")
		wantCode(w.t, "in its place", set("org.c", 30_000), "")
		profile, err := w.Profile(w.ctx, s.User)
		if text, _ := json.Marshal(profile); len(text) >= users.MaxProfileBytes || err != nil {
			w.t.Errorf("profile: %d bytes, %v, want below %d", len(text), err, users.MaxProfileBytes)
		}
	})
}

func TestChangesAtOnceStayUnderTheLimitTogether(t *testing.T) {
	each(t, func(w *world) {
		s, _ := w.register("alice")
		var wg sync.WaitGroup
		value := json.RawMessage(`"` + strings.Repeat("x", 10_000) + `"`)
		for i := range 20 {
			wg.Go(func() {
				_, err := w.SetProfileField(w.ctx, s.User, fmt.Sprint("org.f", i), value)
				if code := matrix.CodeOf(err); code != "" && code != matrix.ProfileTooLarge {
					w.t.Errorf("field %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if profile, err := w.Profile(w.ctx, s.User); err != nil || len(profile) != 6 {
			w.t.Errorf("fields of 10,000 bytes: got %d, %v, want 6", len(profile), err)
		}
	})
}

func FuzzCheckProfileKey(f *testing.F) {
	for _, seed := range []string{"displayname", "m.tz", "", "A", "a-b_c.9", "é", strings.Repeat("a", 256)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, field string) {
		err := checkProfileKey(field)
		if quoted, _ := json.Marshal(field); err == nil && string(quoted) != `"`+field+`"` {
			t.Errorf("%q was let pass, but is not the same in JSON: %s", field, quoted)
		}
	})
}
