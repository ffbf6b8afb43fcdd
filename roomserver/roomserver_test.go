package roomserver_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
)

const serverName = "example.org"

// people is the profiles of the users in a test.
type people struct {
	mu    sync.Mutex
	names map[matrix.UserID]string
}

func (p *people) Profile(_ context.Context, user matrix.UserID) (map[string]json.RawMessage, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name, ok := p.names[user]
	if !ok {
		return nil, matrix.Errorf(matrix.NotFound, "no user %s", user)
	}
	b, err := json.Marshal(name)
	return map[string]json.RawMessage{"displayname": b, "org.example.other": []byte(`1`)}, err
}

func (p *people) rename(user matrix.UserID, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.names == nil {
		p.names = make(map[matrix.UserID]string)
	}
	p.names[user] = name
}

// clock is a clock that moves by a millisecond each time it is looked at.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

// testClock is never set back: two servers of one database tell different times.
var testClock = &clock{now: time.UnixMilli(1_800_000_000_000)}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Millisecond)
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func settings(t testing.TB, db *storage.DB) roomserver.Settings {
	t.Helper()
	key, err := signing.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return roomserver.Settings{
		DB: db, ServerName: serverName, Key: key, Profiles: &people{}, DefaultVersion: "12",
		Now: testClock.Now, Rand: rand.Reader, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func newServer(t testing.TB, db *storage.DB) *roomserver.Server {
	t.Helper()
	return roomserver.New(settings(t, db))
}

// user makes the full ID of a name such as alice or alice:elsewhere.org.
func user(name string) matrix.UserID {
	if !strings.Contains(name, ":") {
		name += ":" + serverName
	}
	return matrix.UserID("@" + name)
}

func as(name string) matrix.Requester {
	return matrix.Requester{Account: user(name), User: user(name), Device: matrix.DeviceID("DEVICE_" + name)}
}

func message(text string) []byte {
	b, _ := json.Marshal(map[string]string{"msgtype": "m.text", "body": text})
	return b
}

func send(room matrix.RoomID, text string) roomserver.SendEvent {
	return roomserver.SendEvent{Room: room, Type: "m.room.message", Content: message(text)}
}

func mustCreate(t testing.TB, s *roomserver.Server, by string, in roomserver.CreateRoom) matrix.RoomID {
	t.Helper()
	id, err := s.Create(context.Background(), as(by), in)
	if err != nil {
		t.Fatalf("create a room: %v", err)
	}
	return id
}
