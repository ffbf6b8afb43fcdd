package clientapi

import (
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// inbox lists the contents of the messages that wait for a client's device.
func (c *client) inbox() string {
	c.w.t.Helper()
	list, err := c.w.accounts.Inbox(c.w.t.Context(), c.who(), storage.Span{UpTo: c.w.db.Position()}, 100)
	c.w.must(err)
	var all []string
	for _, m := range list {
		all = append(all, string(m.Sender)+" "+m.Type+" "+string(m.Content))
	}
	return strings.Join(all, "; ")
}

func TestSendToDevice(t *testing.T) {
	w := newWorld(t)
	alice, bob, guest := w.register("alice"), w.register("bob"), w.guest()
	to := func(device matrix.DeviceID, content string) string {
		return `{"messages":{"@bob:example.org":{"` + string(device) + `":` + content + `},"@nobody:example.org":{"X":{}}}}`
	}
	const path = "/sendToDevice/m.new_device/"
	alice.put(path+"1", to(bob.device, `{"n":1}`)).is(`{}`)
	alice.put(path+"1", to(bob.device, `{"n":2}`)).is(`{}`)
	alice.put("/_matrix/client/r0"+path+"1", to(bob.device, `{"n":3}`)).is(`{}`)
	guest.put(path+"1", to("*", `{"n":4}`)).is(`{}`)
	alice.put("/sendToDevice/m.other%2Ftype/1", to("*", `{"n":5}`)).is(`{}`)
	alice.put(path+"empty", `{"messages":{}}`).is(`{}`)
	want := `@alice:example.org m.new_device {"n":1}; ` + string(guest.user) + ` m.new_device {"n":4}; @alice:example.org m.other/type {"n":5}`
	if got := bob.inbox(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}

	alice.put(path+"2", `{}`).fails(400, "M_MISSING_PARAM")
	alice.put(path+"2", `{"messages":[]}`).fails(400, "M_BAD_JSON")
	alice.put(path+"2", to(bob.device, `"text"`)).fails(400, "M_BAD_JSON")
	alice.put(path+"2", `{"messages":{"bob":{"D":{}}}}`).fails(400, "M_INVALID_PARAM")
	alice.put(path+"2", `{"messages":`).fails(400, "M_NOT_JSON")
	alice.put("/sendToDevice/m.x/"+strings.Repeat("i", 1025), `{"messages":{}}`).fails(400, "M_INVALID_PARAM")
	alice.put(path+"2", to(bob.device, `{"x":"`+strings.Repeat("y", 65<<10)+`"}`)).fails(413, "M_TOO_LARGE")
	w.outcast.put(path+"2", `{"messages":{}}`).fails(401, "M_MISSING_TOKEN")
	if got := bob.inbox(); got != want {
		t.Errorf("after what was refused: got %s, want %s", got, want)
	}
}
