package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
)

// noted are controls that note what they were asked for.
type noted struct {
	asked []any
	err   error
}

func (n *noted) CreateUser(_ context.Context, in createUser) (matrix.UserID, error) {
	n.asked = append(n.asked, in)
	return matrix.UserID("@" + in.Username + ":localhost"), n.err
}

func (n *noted) ResetPassword(_ context.Context, in resetPassword) error {
	n.asked = append(n.asked, in)
	return n.err
}

func (n *noted) CreateToken(_ context.Context, in createToken) (string, error) {
	n.asked = append(n.asked, in)
	return "token", n.err
}

func (n *noted) Backup(_ context.Context, in backupTo) error {
	n.asked = append(n.asked, in)
	return n.err
}

// startControl serves c on a socket in a new folder until the test ends.
func startControl(t *testing.T, c controls) (dataDir string) {
	t.Helper()
	dataDir, err := os.MkdirTemp("", "myelin") // shorter than t.TempDir: the path of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	server, err := listenControl(dataDir, c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, os.RemoveAll(dataDir)); err != nil {
			t.Error(err)
		}
	})
	return dataDir
}

func TestControlSocketCarriesRequests(t *testing.T) {
	server := &noted{}
	client, runs := dialControl(t.Context(), startControl(t, server))
	if !runs {
		t.Fatal("got no server, want one")
	}
	user, err := client.CreateUser(t.Context(), createUser{Username: "alice", Password: "p", Admin: true})
	if err != nil || user != "@alice:localhost" {
		t.Errorf("got %q and %v, want @alice:localhost", user, err)
	}
	if err := client.ResetPassword(t.Context(), resetPassword{User: "bob", Password: "q", LogoutDevices: true}); err != nil {
		t.Error(err)
	}
	if err := client.Backup(t.Context(), backupTo{Folder: "/b"}); err != nil {
		t.Error(err)
	}
	if token, err := client.CreateToken(t.Context(), createToken{Uses: 2}); err != nil || token != "token" {
		t.Errorf("got %q and %v, want token", token, err)
	}
	want := []any{createUser{"alice", "p", true}, resetPassword{"bob", "q", true}, backupTo{"/b"}, createToken{2}}
	if len(server.asked) != len(want) {
		t.Fatalf("got %v, want %v", server.asked, want)
	}
	for i := range want {
		if server.asked[i] != want[i] {
			t.Errorf("got %v, want %v", server.asked[i], want[i])
		}
	}
}

func TestControlSocketCarriesErrors(t *testing.T) {
	client, _ := dialControl(t.Context(), startControl(t, &noted{err: errors.New("the name is taken")}))
	if _, err := client.CreateUser(t.Context(), createUser{}); err == nil || err.Error() != "the name is taken" {
		t.Errorf("got %v, want: the name is taken", err)
	}
	if err := client.ask(t.Context(), "fly", nothing{}, &nothing{}); err == nil {
		t.Error("an unknown request: got no error")
	}
	if err := client.ask(t.Context(), "backup", createUser{}, &nothing{}); err == nil || !strings.Contains(err.Error(), "username") {
		t.Errorf("a request with unknown fields: got %v", err)
	}
	long := createUser{Password: strings.Repeat("p", maxControlBody)}
	if _, err := client.CreateUser(t.Context(), long); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("a long request: got %v", err)
	}
}

func TestControlSocketIsPrivate(t *testing.T) {
	dataDir := startControl(t, &noted{})
	info, err := os.Stat(controlPath(dataDir))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Mode().Perm(), os.FileMode(0o600); got != want {
		t.Errorf("got mode %o, want %o", got, want)
	}
	entries, err := os.ReadDir(dataDir)
	if err != nil || len(entries) != 1 {
		t.Errorf("got %v and %v, want the socket alone", entries, err)
	}
}

func TestControlSocketLeftByAnother(t *testing.T) {
	dataDir := startControl(t, &noted{})
	if err := os.Remove(controlPath(dataDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(controlPath(dataDir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, runs := dialControl(t.Context(), dataDir); runs {
		t.Error("got a server behind a file that is no socket")
	}
	second, err := listenControl(dataDir, &noted{})
	if err != nil {
		t.Fatalf("listen where something was left: %v", err)
	}
	if _, runs := dialControl(t.Context(), dataDir); !runs {
		t.Error("got no server, want one")
	}
	if err := second.listener.Close(); err != nil {
		t.Error(err)
	}
	if err := second.Run(t.Context()); err == nil || errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Run on a closed socket: got %v, want its error", err)
	}
}
