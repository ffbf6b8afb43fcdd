package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// stopBudget is how long a server may take to stop; a second is promised, the rest is for a busy machine.
const stopBudget = 3 * time.Second

// settingsIn are the settings of a server in dir, on a port that is free.
func settingsIn(t *testing.T, dir string) config.Config {
	t.Helper()
	env := map[string]string{
		"MYELIN_SERVER_NAME": "localhost", "MYELIN_DATA_DIR": dir, "MYELIN_LISTEN": "127.0.0.1:0", "MYELIN_PASSWORD_HASH_COST": "4",
	}
	c, err := config.Load(config.Sources{Env: func(name string) (string, bool) {
		text, ok := env[name]
		return text, ok
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// running is a server of a test.
type running struct {
	url  string
	stop func() // at most once does something
}

// start runs a server until stop or the end of the test.
func start(t *testing.T, c config.Config) running {
	t.Helper()
	return startLogging(t, c, slog.New(slog.DiscardHandler))
}

func startLogging(t *testing.T, c config.Config, log *slog.Logger) running {
	t.Helper()
	p, err := build(t.Context(), c, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := p.run(ctx)
		p.close()
		ended <- err
	}()
	stop := sync.OnceFunc(func() {
		began := time.Now()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		if took := time.Since(began); took > stopBudget {
			t.Errorf("stopping took %v, want at most %v", took, stopBudget)
		}
	})
	t.Cleanup(stop)
	return running{"http://" + p.listening.Addrs()[0].String(), stop}
}

// get returns the answer of the server, which must be a success.
func (r running) get(t *testing.T, path string) string {
	t.Helper()
	response, err := http.Get(r.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: got %s %s and %v", path, response.Status, body, err)
	}
	return string(body)
}

func TestServe(t *testing.T) {
	dir := filepath.Join(storagetest.Dir(t), "data")
	c := settingsIn(t, dir)
	server := start(t, c)
	for path, want := range map[string]string{
		"/health": `"ok"`, "/ready": `"ready"`, "/metrics": "myelin_storage_commit_seconds_count",
	} {
		if got := server.get(t, path); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s in it", path, got, want)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data directory: got %v and %v, want mode 700", info.Mode(), err)
	}
	if _, err := build(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a second server on the same data: got no error")
	}
	server.stop()
	if _, err := os.Stat(controlPath(dir)); !os.IsNotExist(err) {
		t.Errorf("the control socket after the end: got %v, want none", err)
	}
}

// call asks the server as a client does, and returns its answer, which must be a success.
func (r running) call(t *testing.T, method, path, token, body string) map[string]any {
	t.Helper()
	answer, err := r.ask(t.Context(), method, path, token, body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func (r running) ask(ctx context.Context, method, path, token, body string) (answer map[string]any, err error) {
	request, err := http.NewRequestWithContext(ctx, method, r.url+"/_matrix/client/v3"+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	err = json.NewDecoder(response.Body).Decode(&answer)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: got %s %v", method, path, response.Status, answer)
	}
	return answer, err
}

// TestChat: all parts are joined, so a message wakes a client that waits, and survives a restart.
func TestChat(t *testing.T) {
	dir := storagetest.Dir(t)
	c := settingsIn(t, dir)
	server := start(t, c)
	if r := command(t, "secret\n", "admin", "create-user", "alice", "--password-stdin", "--data-dir", dir); r.err != nil {
		t.Fatal(r.err)
	}
	login := `{"type":"m.login.password","identifier":{"type":"m.id.user","user":"alice"},"password":"secret"}`
	token := server.call(t, "POST", "/login", "", login)["access_token"].(string)
	room := server.call(t, "POST", "/createRoom", token, `{}`)["room_id"].(string)
	since := server.call(t, "GET", "/sync", token, "")["next_batch"].(string)
	var news map[string]any
	var waiting errgroup.Group
	waiting.Go(func() (err error) {
		news, err = server.ask(t.Context(), "GET", "/sync?timeout=20000&since="+url.QueryEscape(since), token, "")
		return err
	})
	path := "/rooms/" + url.PathEscape(room) + "/send/m.room.message/1"
	event := server.call(t, "PUT", path, token, `{"msgtype":"m.text","body":"hello"}`)["event_id"].(string)
	if err := waiting.Wait(); err != nil || !strings.Contains(fmt.Sprint(news), event) {
		t.Errorf("sync: got %v and %v, want %s in it", news, err, event)
	}
	server.stop()
	server = start(t, c)
	if again := server.call(t, "PUT", path, token, `{"msgtype":"m.text","body":"hello"}`)["event_id"]; again != event {
		t.Errorf("the same transaction after a restart: got %v, want %s", again, event)
	}
}

func TestServeOnPostgres(t *testing.T) {
	dir := storagetest.Dir(t)
	c := settingsIn(t, dir)
	c.Database = config.Database(storagetest.PostgresURL(t))
	server := start(t, c)
	server.get(t, "/ready")
	flags := []string{"--data-dir", dir, "--server-name=localhost", "--database", string(c.Database), "--listen=127.0.0.1:0"}
	if r := command(t, "", append([]string{"backup", filepath.Join(dir, "b")}, flags...)...); r.err == nil || !strings.Contains(r.err.Error(), "pg_dump") {
		t.Errorf("backup: got %v, want that pg_dump does it", r.err)
	}
	server.stop()
	if r := command(t, "", append([]string{"restore"}, flags...)...); r.err != nil {
		t.Errorf("restore: %v", r.err)
	}
	if r := command(t, "", append([]string{"restore", dir}, flags...)...); r.err == nil {
		t.Error("restoring a folder into PostgreSQL: got no error")
	}
	r := command(t, "", append([]string{"doctor"}, flags...)...)
	if r.err != nil || !strings.Contains(r.out, "PostgreSQL ") {
		t.Errorf("doctor: got %v and:\n%s", r.err, r.out)
	}
}

func TestServeTellsThatThePortIsTaken(t *testing.T) {
	server := start(t, settingsIn(t, storagetest.Dir(t)))
	c := settingsIn(t, storagetest.Dir(t))
	c.Listen[0].Address = strings.TrimPrefix(server.url, "http://")
	if _, err := build(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), c.Listen[0].Address) {
		t.Fatalf("got %v, want an error that names the address", err)
	}
	c.Listen[0].Address = "127.0.0.1:0"
	start(t, c) // what the failed start had opened is closed again
}

func TestAccountsBesideAndWithoutAServer(t *testing.T) {
	dir := storagetest.Dir(t)
	server := start(t, settingsIn(t, dir))
	flags := []string{"--data-dir", dir, "--server-name", "localhost", "--password-hash-cost=4"}
	expect := func(want string, args ...string) {
		t.Helper()
		r := command(t, "correct horse\n", append(args, flags...)...)
		if got := r.out + errorText(r.err); !strings.Contains(got, want) {
			t.Errorf("%v: got %q, want %q in it", args, got, want)
		}
	}
	expect("made @alice:localhost", "admin", "create-user", "alice", "--admin", "--password-stdin")
	expect("is taken", "admin", "create-user", "alice", "--password-stdin")
	expect("is changed", "admin", "reset-password", "@alice:localhost", "--password-stdin")
	expect("not a user", "admin", "reset-password", "@alice:elsewhere.org", "--password-stdin")
	server.stop()
	expect("made @bob:localhost", "admin", "create-user", "bob", "--password-stdin")
	expect("is changed", "admin", "reset-password", "bob", "--password-stdin")
	expect("is taken", "admin", "create-user", "bob", "--password-stdin")
	if r := command(t, "", append([]string{"admin", "create-token", "--uses=1"}, flags...)...); r.err != nil || len(r.out) < 10 {
		t.Errorf("create-token: got %q and %v", r.out, r.err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestBackupAndRestore(t *testing.T) {
	dir, other := storagetest.Dir(t), storagetest.Dir(t)
	c := settingsIn(t, dir)
	server := start(t, c)
	copied := filepath.Join(other, "copy")
	must := func(args ...string) {
		t.Helper()
		if r := command(t, "correct horse\n", args...); r.err != nil {
			t.Fatalf("%v: %v", args, r.err)
		}
	}
	must("admin", "create-user", "alice", "--password-stdin", "--data-dir", dir)
	must("backup", copied, "--data-dir", dir)
	if r := command(t, "", "backup", copied, "--data-dir", dir); r.err == nil {
		t.Error("a backup over another: got no error")
	}
	server.stop()

	restored := filepath.Join(other, "data")
	in := []string{"--server-name=localhost", "--data-dir", restored}
	must(append([]string{"restore", copied}, in...)...)
	if r := command(t, "", append([]string{"restore", copied}, in...)...); r.err == nil {
		t.Error("restoring over a database: got no error")
	}
	r := command(t, "p\n", append([]string{"admin", "create-user", "alice", "--password-stdin"}, in...)...)
	if r.err == nil || !strings.Contains(r.err.Error(), "is taken") {
		t.Errorf("alice after the restore: got %v, want that she is there", r.err)
	}
	before, err := os.ReadFile(c.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(restored, "signing.key"))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the signing key is not that of the backup (%v)", err)
	}
}

func TestRestoreKeepsAnotherKey(t *testing.T) {
	dir := storagetest.Dir(t)
	mine, theirs := filepath.Join(dir, "mine"), filepath.Join(dir, "theirs")
	for _, path := range []string{mine, theirs} {
		if _, _, err := signingKey(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := restoreKey(mine, theirs); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("got %v, want that there is another key", err)
	}
	if err := restoreKey(mine, mine); err != nil {
		t.Errorf("the same key: got %v", err)
	}
}

func TestDoctorOpensTheDatabase(t *testing.T) {
	dir := filepath.Join(storagetest.Dir(t), "data")
	r := command(t, "", "doctor", "--server-name=localhost", "--data-dir", dir, "--listen=127.0.0.1:0")
	if r.err != nil || !strings.Contains(r.out, "SQLite 3.") {
		t.Errorf("got %v and:\n%s", r.err, r.out)
	}
	server := start(t, settingsIn(t, dir))
	r = command(t, "", "doctor", "--server-name=localhost", "--data-dir", dir, "--listen", strings.TrimPrefix(server.url, "http://"))
	if r.err != nil || !strings.Contains(r.out, "in use by the running server") {
		t.Errorf("beside a server: got %v and:\n%s", r.err, r.out)
	}
	if err := os.WriteFile(filepath.Join(dir, "signing.key"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	r = command(t, "", "doctor", "--server-name=localhost", "--data-dir", dir)
	if r.err == nil || !strings.Contains(r.out, "FAILED  signing key") {
		t.Errorf("with a broken key: got %v and:\n%s", r.err, r.out)
	}
}
