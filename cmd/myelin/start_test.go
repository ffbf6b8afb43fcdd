package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// said is what a command writes, and cancels a context at the first word.
type said struct {
	bytes.Buffer
	stop context.CancelFunc
}

func (s *said) Write(p []byte) (int, error) {
	defer s.stop()
	return s.Buffer.Write(p)
}

// The command of the README, up to its first words.
func TestServeCommand(t *testing.T) {
	dir := storagetest.Dir(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, log := &said{stop: stop}, &bytes.Buffer{}
	root := rootCommand(func(string) (string, bool) { return "", false })
	root.SetOut(out)
	root.SetErr(log)
	root.SetArgs([]string{"serve", "--server-name", "localhost", "--data-dir", dir, "--listen", "127.0.0.1:0",
		"--log-format", "json", "--media-url-previews", "--password-hash-cost=4"})
	if err := root.ExecuteContext(ctx); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Myelin serves localhost at ", "admin create-user --admin alice --data-dir " + dir} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got no %q in:\n%s", want, out)
		}
	}
	found := map[string]bool{}
	for line := range strings.Lines(log.String()) {
		var entry struct{ Msg, Key string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("the log has a line that is not JSON: %s", line)
		}
		found[entry.Msg+" "+entry.Key] = true
	}
	if want := "this setting has no effect yet media.url_previews"; !found[want] {
		t.Errorf("got the log\n%swant in it: %s", log, want)
	}
}

// A server keeps its name, whatever the settings say later.
func TestServerIsNotRenamed(t *testing.T) {
	c := settingsIn(t, storagetest.Dir(t))
	server := start(t, c)
	if r := command(t, "", "admin", "create-user", "alice", "--data-dir", c.DataDir); r.err != nil {
		t.Fatal(r.err)
	}
	server.stop()
	c.ServerName = "example.org"
	p, err := build(t.Context(), c, slog.New(slog.DiscardHandler))
	if err == nil {
		p.close()
	}
	if err == nil || !strings.Contains(err.Error(), "belongs to the server localhost") {
		t.Errorf("started as example.org: got %v, want a refusal that names localhost", err)
	}
	if found, err := checkDatabase(t.Context(), patient{config: c, now: time.Now}); err == nil {
		t.Errorf("the doctor found %q, want a refusal", found)
	}
	c.ServerName = "localhost"
	start(t, c)
}

// Behind proxies that are named, users are known by the addresses that these tell.
func TestTrustedProxies(t *testing.T) {
	for _, test := range []struct {
		proxies []string
		want    string
	}{
		{nil, "10.0.0.9"}, // the tests connect from this machine, which is always believed
		{[]string{"10.0.0.0/8"}, "192.0.2.1"},
		{[]string{"10.0.0.0/8", "192.0.2.1"}, "198.51.100.7"},
	} {
		c := settingsIn(t, storagetest.Dir(t))
		c.TrustedProxies, c.Registration = test.proxies, config.Open
		server := start(t, c)
		in := `{"username":"alice","password":"secret password","auth":{"type":"m.login.dummy"}}`
		token := server.call(t, "POST", "/register", "", in)["access_token"].(string)
		if got := seenFrom(t, server, token, "198.51.100.7, 192.0.2.1, 10.0.0.9"); got != test.want {
			t.Errorf("proxies %v: got a client at %s, want %s", test.proxies, got, test.want)
		}
		server.stop()
	}
}

// seenFrom returns the address that a request with this X-Forwarded-For came from, in the eyes of the server.
func seenFrom(t *testing.T, server running, token, forwarded string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "GET", server.url+"/_matrix/client/v3/devices", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{"Authorization": {"Bearer " + token}, "X-Forwarded-For": {forwarded}}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		Devices []struct {
			IP string `json:"last_seen_ip"`
		}
	}
	if err := json.Unmarshal(body, &out); err != nil || len(out.Devices) != 1 {
		t.Fatalf("got %s, want one device", body)
	}
	return out.Devices[0].IP
}

// The doctor reads certificates as the listener would, and looks ahead.
func TestDoctorLooksAtCertificates(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	good := certificate(t, dir, "good", now.Add(60*24*time.Hour))
	old := certificate(t, dir, "old", now.Add(-time.Hour))
	soon := certificate(t, dir, "soon", now.Add(3*24*time.Hour))
	mixed := config.Listener{Address: ":1", TLSCert: good.TLSCert, TLSKey: old.TLSKey}
	for _, test := range []struct {
		name     string
		listener config.Listener
		want     string // of the error; empty: none
	}{
		{"plain", config.Listener{Address: ":1"}, ""},
		{"good", good, ""},
		{"expired", old, "is good until 2029-12-31 only"},
		{"expires soon", soon, "is good until 2030-01-04 only"},
		{"key of another", mixed, "private key does not match"},
		{"absent", config.Listener{Address: ":1", TLSCert: "none", TLSKey: "none"}, "no such file"},
	} {
		err := checkCertificate(test.listener, now)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

// certificate makes a certificate that is good until a time, and its key.
func certificate(t *testing.T, dir, name string, until time.Time) config.Listener {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: until.Add(-90 * 24 * time.Hour), NotAfter: until}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	l := config.Listener{Address: ":1", TLSCert: filepath.Join(dir, name+".crt"), TLSKey: filepath.Join(dir, name+".key")}
	for path, block := range map[string]*pem.Block{
		l.TLSCert: {Type: "CERTIFICATE", Bytes: cert}, l.TLSKey: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// Errors are shown to people: one line, or a line for each setting that is wrong.
func TestReport(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("open: %w", os.ErrPermission), "myelin: open: permission denied\n"},
		{config.Problems{{Key: "listen", Text: "must have at least one address"}},
			"myelin: the settings have mistakes (docs/config.md explains them):\n  listen: must have at least one address\n"},
	} {
		var out bytes.Buffer
		report(&out, test.err)
		if got := out.String(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
