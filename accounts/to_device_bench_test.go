package accounts

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
	"github.com/myelin-chat/myelin/storage/users"
)

// manyUsers makes users with a device each, and returns the body of a request that sends each a message of the size of an
// encrypted room key.
func (w *world) manyUsers(n int) []byte {
	content := `{"algorithm":"m.olm.v1.curve25519-aes-sha2","ciphertext":{"k":{"type":0,"body":"` + strings.Repeat("x", 1200) + `"}}}`
	var all storage.All
	var body []string
	for i := range n {
		u := matrix.UserID(fmt.Sprintf("@user%04d:example.org", i))
		s := users.Session{Device: "DEVICEDEVICE", Token: hashToken(string(u))}
		all = append(all, users.Create{User: users.User{ID: u}, Session: &s})
		body = append(body, fmt.Sprintf(`%q:{"DEVICEDEVICE":%s}`, u, content))
	}
	_, err := w.db.Commit(w.ctx, all)
	wantCode(w.t, "users", err, "")
	return []byte(`{` + strings.Join(body, ",") + `}`)
}

// emptyAll lets all the devices acknowledge what they have.
func (w *world) emptyAll(n int) {
	var all storage.All
	for i := range n {
		u := matrix.UserID(fmt.Sprintf("@user%04d:example.org", i))
		all = append(all, users.ForgetToDevice{To: users.Address{User: u, Device: "DEVICEDEVICE"}, UpTo: w.db.Position()})
	}
	_, err := w.db.Commit(w.ctx, all)
	wantCode(w.t, "empty", err, "")
}

// BenchmarkSendToDevice is one request, from its body to the answer. The devices take what came from time to time.
func BenchmarkSendToDevice(b *testing.B) {
	for _, kind := range storagetest.Kinds {
		for _, devices := range []int{1, 100, 500} {
			b.Run(fmt.Sprintf("%s/devices=%d", kind, devices), func(b *testing.B) {
				w := newWorld(b, storagetest.Open(b, kind))
				body := w.manyUsers(devices)
				from := requester("@user0000:example.org", "DEVICEDEVICE")
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					if n++; n%5 == 0 {
						b.StopTimer()
						w.emptyAll(devices)
						b.StartTimer()
					}
					var all DeviceMessages
					if err := json.Unmarshal(body, &all); err != nil {
						b.Fatal(err)
					}
					if err := w.SendToDevice(w.ctx, from, ToDevice{Type: "m.room.encrypted", TxnID: fmt.Sprint(n), Messages: all}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkReceiveToDevice is one EDU of another server to as many devices.
func BenchmarkReceiveToDevice(b *testing.B) {
	for _, kind := range storagetest.Kinds {
		b.Run(kind, func(b *testing.B) {
			w := newWorld(b, storagetest.Open(b, kind))
			body := w.manyUsers(20)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				var all DeviceMessages
				if err := json.Unmarshal(body, &all); err != nil {
					b.Fatal(err)
				}
				edu := RemoteToDevice{ID: fmt.Sprint(n), Sender: "@c:far.example", Type: "m.room.encrypted", Messages: all}
				if _, _, err := w.ReceiveToDevice(w.ctx, []RemoteToDevice{edu}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
