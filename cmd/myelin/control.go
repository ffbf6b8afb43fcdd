package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/myelin-chat/myelin/matrix"
)

// The control socket lets the operator's commands reach the running server: HTTP with small JSON bodies over a Unix
// socket in the data directory that only the server's own user may open. There is no other authentication.

// Limits of the control socket.
const (
	maxControlBody    = 64 << 10
	controlStopBudget = 500 * time.Millisecond
	controlHeaderTime = 5 * time.Second
)

// controls is what an operator can have done, by the running server or, if none runs, by the command itself.
type controls interface {
	CreateUser(ctx context.Context, in createUser) (matrix.UserID, error)
	ResetPassword(ctx context.Context, in resetPassword) error
	CreateToken(ctx context.Context, in createToken) (token string, err error)
	Backup(ctx context.Context, in backupTo) error
}

// createUser asks for an account; the password is already made where the operator gave none.
type createUser struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Admin    bool   `json:"admin"`
}

// resetPassword asks for another password of an account.
type resetPassword struct {
	User          string `json:"user"` // localpart or whole user ID
	Password      string `json:"password"`
	LogoutDevices bool   `json:"logout_devices"`
}

// createToken asks for a registration token.
type createToken struct {
	Uses int64 `json:"uses"` // 0: without limit
}

// backupTo asks for a copy in a folder that is not there yet.
type backupTo struct {
	Folder string `json:"folder"` // absolute
}

type created struct {
	UserID matrix.UserID `json:"user_id"`
}

type createdToken struct {
	Token string `json:"token"`
}

type nothing struct{}

// failure is the answer to what could not be done, in the words that the command prints.
type failure struct {
	Error string `json:"error"`
}

// controlPath is below the data directory, which is what servers and commands have in common.
func controlPath(dataDir string) string { return filepath.Join(dataDir, "control.sock") }

// controlServer serves controls on the socket.
type controlServer struct {
	listener net.Listener
	server   *http.Server
}

// listenControl opens the socket. The caller holds the lock of the data directory, so a socket that is there already
// was left by a process that is gone.
func listenControl(dataDir string, c controls) (*controlServer, error) {
	path := controlPath(dataDir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := listenPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /create-user", controlled(func(ctx context.Context, in createUser) (created, error) {
		user, err := c.CreateUser(ctx, in)
		return created{user}, err
	}))
	mux.Handle("POST /reset-password", controlled(func(ctx context.Context, in resetPassword) (nothing, error) {
		return nothing{}, c.ResetPassword(ctx, in)
	}))
	mux.Handle("POST /create-token", controlled(func(ctx context.Context, in createToken) (createdToken, error) {
		token, err := c.CreateToken(ctx, in)
		return createdToken{token}, err
	}))
	mux.Handle("POST /backup", controlled(func(ctx context.Context, in backupTo) (nothing, error) {
		return nothing{}, c.Backup(ctx, in)
	}))
	return &controlServer{listener, &http.Server{Handler: mux, ReadHeaderTimeout: controlHeaderTime}}, nil
}

// listenPrivate makes the socket in a folder that nobody else can enter, and moves it to its place when its mode is
// set: at no moment can another user connect.
func listenPrivate(path string) (net.Listener, error) {
	folder, err := os.MkdirTemp(filepath.Dir(path), ".control-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	made := filepath.Join(folder, "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // it would remove the name it was made under; serve removes the right one
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, path)); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// Run serves until ctx ends.
func (s *controlServer) Run(ctx context.Context) error {
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		// A command that is being served may finish, but not hold up the end: a backup can be made again.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), controlStopBudget)
		defer cancel()
		stopped <- errors.Join(s.server.Shutdown(end), s.server.Close())
	})
	err := s.server.Serve(s.listener)
	if stop() { // it ended by itself
		return fmt.Errorf("control socket: %w", err)
	}
	<-stopped
	return nil
}

// controlled decodes a request, has it done and answers.
func controlled[In, Out any](do func(context.Context, In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in In
		decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControlBody))
		// A newer command that asks for something this server does not know shall hear so.
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&in); err != nil {
			answer(w, http.StatusBadRequest, failure{err.Error()})
			return
		}
		out, err := do(r.Context(), in)
		if err != nil {
			// One status for all: the commands show the text, and no program decides by it.
			answer(w, http.StatusUnprocessableEntity, failure{err.Error()})
			return
		}
		answer(w, http.StatusOK, out)
	})
}

// answer writes JSON.
func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the command went away: nobody is left to tell
}

// controlClient has the running server do things.
type controlClient struct{ http *http.Client }

// dialControl returns a client of the server that runs on the data directory, and whether there is one.
func dialControl(ctx context.Context, dataDir string) (*controlClient, bool) {
	path := controlPath(dataDir)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	conn, err := dial(ctx, "", "")
	if err != nil {
		return nil, false
	}
	// A socket whose process is gone refuses the connection, so that this tells more than the file does.
	_ = conn.Close() // it has only been opened to see whether it can be
	return &controlClient{&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}, true
}

// CreateUser implements controls.
func (c *controlClient) CreateUser(ctx context.Context, in createUser) (matrix.UserID, error) {
	var out created
	err := c.ask(ctx, "create-user", in, &out)
	return out.UserID, err
}

// ResetPassword implements controls.
func (c *controlClient) ResetPassword(ctx context.Context, in resetPassword) error {
	return c.ask(ctx, "reset-password", in, &nothing{})
}

// CreateToken implements controls.
func (c *controlClient) CreateToken(ctx context.Context, in createToken) (string, error) {
	var out createdToken
	err := c.ask(ctx, "create-token", in, &out)
	return out.Token, err
}

// Backup implements controls.
func (c *controlClient) Backup(ctx context.Context, in backupTo) error {
	return c.ask(ctx, "backup", in, &nothing{})
}

// ask makes one request. The host in the URL means nothing: all goes to the socket.
func (c *controlClient) ask(ctx context.Context, what string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://control/"+what, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("ask the running server: %w", err)
	}
	defer response.Body.Close()
	decoder := json.NewDecoder(io.LimitReader(response.Body, maxControlBody))
	if response.StatusCode == http.StatusOK {
		return decoder.Decode(out)
	}
	var failed failure
	if err := decoder.Decode(&failed); err != nil || failed.Error == "" {
		return fmt.Errorf("the running server answered %s", response.Status)
	}
	return errors.New(failed.Error)
}
