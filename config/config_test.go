package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/myelin-chat/myelin/config"
)

// load loads settings from a file's text, an environment and flags, each of which may be empty.
func load(t *testing.T, file string, env map[string]string, args ...string) (config.Config, error) {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	src := config.Sources{Flags: flags, Env: func(name string) (string, bool) {
		text, ok := env[name]
		return text, ok
	}}
	if file != "" {
		src.File = filepath.Join(t.TempDir(), "myelin.yaml")
		if err := os.WriteFile(src.File, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return config.Load(src)
}

func mustLoad(t *testing.T, file string, env map[string]string, args ...string) config.Config {
	t.Helper()
	c, err := load(t, file, env, args...)
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return c
}

func TestOnlyTheServerNameIsNeeded(t *testing.T) {
	c := mustLoad(t, "", nil, "--server-name", "example.org")
	want := config.Default()
	want.ServerName = "example.org"
	want.SigningKey = "data/signing.key"
	want.Media.Path = "data/media"
	want.PublicURL = "http://127.0.0.1:8008"
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestFlagBeforeEnvironmentBeforeFile(t *testing.T) {
	const file = "server_name: file.org\nlog: {level: warn}\nrate_limits: {login: {burst: 3}}\nguests: true\n"
	env := map[string]string{"MYELIN_LOG_LEVEL": "error", "MYELIN_RATE_LIMITS_LOGIN_BURST": "4"}
	c := mustLoad(t, file, env, "--rate-limits-login-burst=5", "--federation-enabled=false")
	got := fmt.Sprint(c.ServerName, " ", c.Log.Level, " ", c.RateLimits.Login.Burst, " ", c.Federation.Enabled, " ", c.Guests)
	if want := "file.org error 5 false true"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLists(t *testing.T) {
	const file = `
server_name: example.org
listen:
  - address: ":8448"
    tls_cert: a.pem
    tls_key: a.key
    serve: [federation]
  - {address: "127.0.0.1:8008"}
federation:
  deny: [bad.org, "*.evil.org"]
`
	c := mustLoad(t, file, nil)
	if len(c.Listen) != 2 || !c.Listen[0].TLS() || c.Listen[0].Serves(config.Client) || !c.Listen[1].Serves(config.Admin) {
		t.Errorf("got %+v, want a listener of federation over TLS and one of all", c.Listen)
	}
	if got, want := strings.Join(c.Federation.Deny, " "), "bad.org *.evil.org"; got != want {
		t.Errorf("got deny %q, want %q", got, want)
	}
	if got, want := c.PublicURL, "https://localhost:8448"; got != want {
		t.Errorf("got public URL %q, want %q", got, want)
	}
	env := map[string]string{"MYELIN_LISTEN": ":1"}
	if c = mustLoad(t, file, env); len(c.Listen) != 1 || c.Listen[0].Address != ":1" {
		t.Errorf("got %+v, want :1 alone, from the environment", c.Listen)
	}
	if c = mustLoad(t, file, env, "--listen", "[::1]:2"); len(c.Listen) != 1 || c.PublicURL != "http://[::1]:2" {
		t.Errorf("got %+v and %s, want [::1]:2 alone, from the flag", c.Listen, c.PublicURL)
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	const file = `
server_nam: example.org
listen: [{address: "nowhere", tls_cert: a.pem, serve: [chat]}]
guests: maybe
guests: true
federation: {allow: no}
log: quiet
rate_limits: {send: {per_second: fast, burst: 0}, sent: {}}
media: {max_upload_bytes: 1MB}
password_hash_cost: [4]
`
	_, err := load(t, file, map[string]string{"MYELIN_TURN_LIFETIME_SECONDS": "long"}, "--smtp-tls", "ssl")
	want := `server_nam: there is no such setting; did you mean server_name? (line 2)
listen[0].serve[0]: must be one of client, federation, media, admin, metrics
guests: must be true or false (line 4)
guests: is set twice (line 5)
federation.allow: must be a list (line 6)
log: must be a section of ` + "`key: value`" + ` lines (line 7)
rate_limits.send.per_second: must be a number (line 8)
rate_limits.sent: there is no such setting; did you mean send? (line 8)
media.max_upload_bytes: must be a whole number (line 9)
password_hash_cost: must be a single value (line 10)
turn.lifetime_seconds: must be a whole number (from MYELIN_TURN_LIFETIME_SECONDS)
server_name: must be set: the name in user IDs, such as example.org
listen[0].address: must be host:port
listen[0].tls_key: must be set beside tls_cert
rate_limits.send.burst: must be between 1 and a million
smtp.tls: must be one of starttls, tls, none`
	if err == nil {
		t.Fatal("got no error")
	}
	got := map[string]bool{}
	for _, line := range strings.Split(err.Error(), "\n") {
		got[line] = true
	}
	for _, line := range strings.Split(want, "\n") {
		if !got[line] {
			t.Errorf("not reported: %s", line)
		}
		delete(got, line)
	}
	for line := range got {
		t.Errorf("reported too: %s", line)
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*config.Config)
		want   string // the key with the problem
	}{
		{"bad server name", func(c *config.Config) { c.ServerName = "a b" }, "server_name"},
		{"no data directory", func(c *config.Config) { c.DataDir = "" }, "data_dir"},
		{"no listener", func(c *config.Config) { c.Listen = nil }, "listen"},
		{"port too high", func(c *config.Config) { c.Listen[0].Address = ":65536" }, "listen[0].address"},
		{"port by name", func(c *config.Config) { c.Listen[0].Address = ":http" }, "listen[0].address"},
		{"URL as an address", func(c *config.Config) { c.Listen[0].Address = "http://a:80" }, "listen[0].address"},
		{"same address twice", func(c *config.Config) { c.Listen = append(c.Listen, c.Listen[0]) }, "listen[1].address"},
		{"key without certificate", func(c *config.Config) { c.Listen[0].TLSKey = "k" }, "listen[0].tls_cert"},
		{"public URL without scheme", func(c *config.Config) { c.PublicURL = "example.org" }, "public_url"},
		{"public URL with a query", func(c *config.Config) { c.PublicURL = "https://a/?b" }, "public_url"},
		{"well-known client", func(c *config.Config) { c.WellKnown.Client = "ftp://a" }, "well_known.client"},
		{"well-known server", func(c *config.Config) { c.WellKnown.Server = "https://a" }, "well_known.server"},
		{"another database", func(c *config.Config) { c.Database = "mysql://a/b" }, "database"},
		{"bus", func(c *config.Config) { c.NATS = "nats://a:4222, b:4222" }, "nats"},
		{"registration", func(c *config.Config) { c.Registration = "all" }, "registration"},
		{"log level", func(c *config.Config) { c.Log.Level = "loud" }, "log.level"},
		{"log format", func(c *config.Config) { c.Log.Format = "xml" }, "log.format"},
		{"room version", func(c *config.Config) { c.DefaultRoomVersion = "twelve!" }, "default_room_version"},
		{"hash too cheap", func(c *config.Config) { c.PasswordHashCost = 3 }, "password_hash_cost"},
		{"hash for ever", func(c *config.Config) { c.PasswordHashCost = 31 }, "password_hash_cost"},
		{"allowed server", func(c *config.Config) { c.Federation.Allow = []string{"a", "*"} }, "federation.allow[1]"},
		{"denied server", func(c *config.Config) { c.Federation.Deny = []string{"a.*"} }, "federation.deny[0]"},
		{"key server", func(c *config.Config) { c.Federation.KeyServers = append(c.Federation.KeyServers, "") }, "federation.key_servers[0]"},
		{"no rate", func(c *config.Config) { c.RateLimits.Sync.PerSecond = 0 }, "rate_limits.sync.per_second"},
		{"no burst", func(c *config.Config) { c.RateLimits.CreateRoom.Burst = -1 }, "rate_limits.create_room.burst"},
		{"no uploads", func(c *config.Config) { c.Media.MaxUploadBytes = 0 }, "media.max_upload_bytes"},
		{"cache below zero", func(c *config.Config) { c.Media.RemoteCacheBytes = -1 }, "media.remote_cache_bytes"},
		{"proxy", func(c *config.Config) { c.TrustedProxies = []string{"10.0.0.0/8", "10.0.0.1", "proxy"} }, "trusted_proxies[2]"},
		{"proxy of a zone", func(c *config.Config) { c.TrustedProxies = []string{"fe80::1%eth0"} }, "trusted_proxies[0]"},
		{"content type", func(c *config.Config) { c.Media.AllowedTypes = []string{"image"} }, "media.allowed_types[0]"},
		{"app service", func(c *config.Config) { c.AppServices = []string{""} }, "app_services[0]"},
		{"mail server", func(c *config.Config) { c.SMTP.Address, c.SMTP.From = "mail", "a@b.org" }, "smtp.address"},
		{"mail sender", func(c *config.Config) { c.SMTP.Address = "mail:25" }, "smtp.from"},
		{"mail password alone", func(c *config.Config) { c.SMTP.Password = "p" }, "smtp.username"},
		{"relay", func(c *config.Config) { c.TURN.URIs = []string{"turn.org"} }, "turn.uris[0]"},
		{"relay's lifetime", func(c *config.Config) { c.TURN.LifetimeSeconds = 0 }, "turn.lifetime_seconds"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := config.Default()
			c.ServerName = "example.org"
			test.change(&c)
			problems, _ := c.Validate().(config.Problems)
			if len(problems) != 1 || problems[0].Key != test.want {
				t.Errorf("got %v, want one problem of %s", problems, test.want)
			}
		})
	}
}

func TestValidateAccepts(t *testing.T) {
	c := config.Default()
	c.ServerName = "[::1]:8448"
	c.Database = "postgres:///myelin?host=/run/postgresql"
	c.NATS = "nats://a:4222,tls://b:4222"
	c.PublicURL = "https://example.org/matrix"
	c.WellKnown = config.WellKnown{Client: "https://example.org", Server: "example.org:443"}
	c.SMTP = config.SMTP{Address: "mail:587", From: "Chat <chat@example.org>", TLS: "tls", Username: "u", Password: "p"}
	c.TURN.URIs = []string{"turn:turn.example.org?transport=udp"}
	if err := c.Validate(); err != nil {
		t.Errorf("got %v, want no problem", err)
	}
}

func TestFileThatIsNoSettings(t *testing.T) {
	for _, file := range []string{"just text", "- a\n- b\n", "a: [", "server_name: a.org\n---\nguests: true\n", "server_name: *x"} {
		if _, err := load(t, file, nil, "--server-name", "example.org"); err == nil {
			t.Errorf("%q: got no error", file)
		}
	}
	for _, file := range []string{"# nothing\n", "---\n", "log:\n", "log: {level: }\n"} {
		if _, err := load(t, file, nil, "--server-name", "example.org"); err != nil {
			t.Errorf("%q: got %v, want no error", file, err)
		}
	}
	if _, err := config.Load(config.Sources{File: filepath.Join(t.TempDir(), "absent.yaml")}); !os.IsNotExist(unwrapped(err)) {
		t.Errorf("absent file: got %v", err)
	}
}

func unwrapped(err error) error {
	if u, ok := err.(interface{ Unwrap() error }); ok {
		return u.Unwrap()
	}
	return err
}

func TestSecretsAreMasked(t *testing.T) {
	c := config.Default()
	c.ServerName = "example.org"
	c.RegistrationSharedSecret, c.SMTP.Password, c.TURN.SharedSecret = "hush1", "hush2", "hush3"
	tests := []struct {
		database config.Database
		nats     config.NATS
	}{
		{"postgres://u:hush4@db/myelin?sslmode=disable", "nats://u:hush5@a:4222,nats://hush6@b:4222"},
		{"postgres://db/myelin?password=hush7&sslpassword=hush8", "embedded"},
		{"postgres://u:hush9@%zz/", "nats://u:hush10@%zz/"},
	}
	for _, test := range tests {
		c.Database, c.NATS = test.database, test.nats
		text, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		shown := string(text) + fmt.Sprintf("%v %+v", c, c) + fmt.Sprint(c.Validate())
		shown += c.Database.LogValue().String() + c.NATS.LogValue().String() + c.SMTP.Password.LogValue().String()
		for f := range c.Fields() {
			shown += f.String()
		}
		if strings.Contains(shown, "hush") {
			t.Errorf("a secret is shown in:\n%s", shown)
		}
		if !strings.Contains(string(text), "password: '********'") && !strings.Contains(string(text), `password: "********"`) {
			t.Errorf("got no mask in:\n%s", text)
		}
	}
	if got, want := config.Database("postgres://u:p@db/myelin").String(), "postgres://u:********@db/myelin"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWhatIsPrintedLoadsAgain(t *testing.T) {
	c := mustLoad(t, "server_name: example.org\nfederation: {deny: [bad.org]}\nlisten: [{address: ':1', serve: [client]}]\n", nil)
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again := mustLoad(t, string(text), nil)
	first, _ := yaml.Marshal(c)
	second, _ := yaml.Marshal(again)
	if string(first) != string(second) {
		t.Errorf("got\n%s\nwant\n%s", second, first)
	}
}

func TestFieldsAreDocumentedAndDistinct(t *testing.T) {
	c := config.Default()
	flags, envs := map[string]string{}, map[string]string{}
	for f := range c.Fields() {
		if f.Doc == "" || f.Key == "" || strings.HasSuffix(f.Key, ".") {
			t.Errorf("%s: has no comment or key", f.Key)
		}
		if other := flags[f.Flag()] + envs[f.Env()]; other != "" {
			t.Errorf("%s: has the flag or variable of %s", f.Key, other)
		}
		flags[f.Flag()], envs[f.Env()] = f.Key, f.Key
	}
	if got, want := flags["rate-limits-create-room-per-second"], "rate_limits.create_room.per_second"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := envs["MYELIN_FEDERATION_ENABLED"], "federation.enabled"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzFile(f *testing.F) {
	f.Add("server_name: example.org\nlisten: [{address: ':1'}]\n")
	f.Add("a: &a [*a]")
	f.Add("log: &l {level: info}\nsmtp: *l\n? {}\n: 1")
	f.Fuzz(func(t *testing.T, file string) {
		path := filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := config.Load(config.Sources{File: path}); err == nil && c.Validate() != nil {
			t.Errorf("loaded without an error, then %v", c.Validate())
		}
	})
}

func TestProxies(t *testing.T) {
	c := config.Default()
	c.TrustedProxies = []string{"10.1.2.3/8", "192.0.2.7", "::ffff:192.0.2.8", "2001:db8::/32"}
	got := fmt.Sprint(c.Proxies())
	if want := "[10.0.0.0/8 192.0.2.7/32 192.0.2.8/32 2001:db8::/32]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
