package accounts

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/myelin-chat/myelin/matrix/canonical"
)

// FuzzRemoteToDevice: whatever another server sends, what is delivered of it are objects that clients can read, for users
// of this server.
func FuzzRemoteToDevice(f *testing.F) {
	for _, seed := range []string{
		`{"message_id":"1","sender":"@c:far.example","type":"m.x","messages":{"@bob:example.org":{"D":{"a":1.5},"*":{}}}}`,
		`{"messages":{"@bob:example.org":{"D":null,"E":[],"":{"\u0000":"\ud800"}},"bob":{"*":{}}}}`,
		`{"messages":{"@bob:example.org":{"D":{"a":1,"a":2}}}}`, `{"messages":[]}`, `null`, `{"messages":{"@bob:example.org":null}}`,
	} {
		f.Add([]byte(seed))
	}
	a := newWorld(f, nil)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var in RemoteToDevice
		if json.Unmarshal(raw, &in) != nil {
			return
		}
		in.makesSense()
		read := a.readRemote(in)
		for user, byDevice := range read {
			if a.local(user) != nil {
				t.Errorf("%q is not of this server", user)
			}
			for device, content := range byDevice {
				again, err := canonical.JSON(content, canonical.Lenient)
				if err != nil || again[0] != '{' || !bytes.Equal(again, content) {
					t.Errorf("%q is given %q: %v", device, content, err)
				}
			}
		}
		for _, part := range splitMessages(read) {
			if _, err := canonical.JSON(part, canonical.Lenient); err != nil {
				t.Errorf("%q: %v", part, err)
			}
		}
	})
}
