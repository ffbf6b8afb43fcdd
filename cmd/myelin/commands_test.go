package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/config"
)

// result is what a command left.
type result struct {
	out string
	err error
}

// command runs the command line in this process.
func command(t *testing.T, input string, args ...string) result {
	t.Helper()
	root := rootCommand(func(string) (string, bool) { return "", false })
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetIn(strings.NewReader(input))
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return result{out.String(), err}
}

func TestConfigPrintsAndChecks(t *testing.T) {
	r := command(t, "", "config", "--server-name", "example.org", "--registration-shared-secret", "hush", "--log-level=warn")
	if r.err != nil {
		t.Fatal(r.err)
	}
	for _, want := range []string{"server_name: example.org", "level: warn", "public_url: http://127.0.0.1:8008"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("got no %q in:\n%s", want, r.out)
		}
	}
	if strings.Contains(r.out, "hush") {
		t.Errorf("the secret is shown:\n%s", r.out)
	}
}

func TestConfigReportsAllMistakes(t *testing.T) {
	r := command(t, "", "config", "--log-level=loud", "--listen=nowhere", "--default-room-version=99")
	var problems config.Problems
	if !errors.As(r.err, &problems) || len(problems) != 3 {
		t.Errorf("got %v, want three problems", r.err)
	}
	if !strings.Contains(r.out, "level: loud") {
		t.Errorf("got no settings in:\n%s", r.out)
	}
	var text bytes.Buffer
	report(&text, r.err)
	if got := text.String(); !strings.Contains(got, "  listen[0].address: must be host:port\n") {
		t.Errorf("got report:\n%s", got)
	}
}

func TestUnsupportedRoomVersion(t *testing.T) {
	r := command(t, "", "config", "--server-name=a.org", "--default-room-version=99")
	if r.err == nil || r.err.Error() != "default_room_version: 99 is not supported" {
		t.Errorf("got %v", r.err)
	}
}

func TestVersion(t *testing.T) {
	if r := command(t, "", "version"); r.err != nil || !strings.HasPrefix(r.out, "myelin "+version) {
		t.Errorf("got %q and %v", r.out, r.err)
	}
}

func TestCommandsAskTheRunningServer(t *testing.T) {
	server := &noted{}
	dataDir := startControl(t, server)
	r := command(t, "secret\n", "admin", "create-user", "alice", "--admin", "--password-stdin", "--data-dir", dataDir)
	if r.err != nil || r.out != "made @alice:localhost\n" {
		t.Errorf("create-user: got %q and %v", r.out, r.err)
	}
	r = command(t, "", "admin", "reset-password", "alice", "--keep-devices", "--data-dir", dataDir)
	if r.err != nil || !strings.Contains(r.out, "\npassword: ") {
		t.Errorf("reset-password: got %q and %v", r.out, r.err)
	}
	if r = command(t, "", "backup", "relative", "--data-dir", dataDir); r.err != nil {
		t.Errorf("backup: %v", r.err)
	}
	if len(server.asked) != 3 {
		t.Fatalf("got %v, want three requests", server.asked)
	}
	if got, want := server.asked[0], (createUser{"alice", "secret", true}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	reset := server.asked[1].(resetPassword)
	if len(reset.Password) < 20 || reset.LogoutDevices {
		t.Errorf("got %v, want a long password and no logout", reset)
	}
	if folder := server.asked[2].(backupTo).Folder; !filepath.IsAbs(folder) {
		t.Errorf("got %q, want an absolute path: the server has another working directory", folder)
	}
}

func TestNoPassword(t *testing.T) {
	r := command(t, "\n", "admin", "create-user", "alice", "--password-stdin", "--data-dir", t.TempDir())
	if r.err == nil || !strings.Contains(r.err.Error(), "no password") {
		t.Errorf("got %v", r.err)
	}
}

func TestWelcome(t *testing.T) {
	c := config.Default()
	c.ServerName, c.PublicURL, c.DataDir = "localhost", "http://127.0.0.1:8008", "it's here"
	text := welcome(c, false)
	for _, want := range []string{"http://127.0.0.1:8008", ` admin create-user --admin alice --data-dir 'it'\''s here'`} {
		if !strings.Contains(text, want) {
			t.Errorf("got no %q in:\n%s", want, text)
		}
	}
	if text := welcome(c, true); strings.Contains(text, "create-user") {
		t.Errorf("with accounts, got:\n%s", text)
	}
	if got, want := invocation("/tmp/go-build123/b001/exe/myelin"), "go run ./cmd/myelin"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := invocation("bin/myelin"), "bin/myelin"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSigningKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "signing.key")
	first, made, err := signingKey(path)
	if err != nil || !made {
		t.Fatalf("got made %t and %v, want a new key", made, err)
	}
	again, made, err := signingKey(path)
	if err != nil || made || again.ID() != first.ID() {
		t.Errorf("got %v, made %t and %v, want %v again", again, made, err, first)
	}
	if err := os.WriteFile(path, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, made, err = signingKey(path); err == nil || made {
		t.Errorf("a broken key: got made %t and %v, want an error", made, err)
	}
}

func TestDoctorFinds(t *testing.T) {
	sound := func(t *testing.T) patient {
		c := config.Default()
		c.DataDir = filepath.Join(t.TempDir(), "data")
		c.SigningKey = filepath.Join(c.DataDir, "signing.key")
		c.Listen[0].Address = "127.0.0.1:0"
		if _, _, err := signingKey(c.SigningKey); err != nil {
			t.Fatal(err)
		}
		return patient{config: c, now: time.Now}
	}
	tests := []struct {
		name, check string
		harm        func(*patient) error
	}{
		{"open database", "data directory", func(p *patient) error {
			path := filepath.Join(p.config.DataDir, backupDatabase)
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o640), os.Chmod(p.config.DataDir, 0o750))
		}},
		{"file for a directory", "data directory", func(p *patient) error { p.config.DataDir = p.config.SigningKey; return nil }},
		{"open key", "signing key", func(p *patient) error { return os.Chmod(p.config.SigningKey, 0o644) }},
		{"broken key", "signing key", func(p *patient) error { return os.WriteFile(p.config.SigningKey, nil, 0o600) }},
		{"no certificate", "listeners", func(p *patient) error { p.config.Listen[0].TLSCert = "none.pem"; return nil }},
		{"clock set back", "clock", func(p *patient) error { p.now = func() time.Time { return time.Unix(1e9, 0) }; return nil }},
	}
	for _, check := range checks[:5] {
		if found, err := check.run(t.Context(), sound(t)); err != nil || found == "" && check.name != "settings" {
			t.Errorf("%s: got %q and %v, want no fault", check.name, found, err)
		}
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := sound(t)
			if err := test.harm(&p); err != nil {
				t.Fatal(err)
			}
			for _, check := range checks {
				if check.name != test.check {
					continue
				}
				if found, err := check.run(t.Context(), p); err == nil {
					t.Errorf("got %q, want an error", found)
				}
			}
		})
	}
}
