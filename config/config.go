// Package config holds the settings of a server: what can be set, what is set when nothing is said, and what is
// wrong with what was said.
//
// The structs below are the whole list. The comment on a field is its documentation, in `myelin serve --help` and in
// docs/config.md; its key is its yaml tag, and flag and environment variable follow from the key. Only cmd/myelin
// sees a Config; every other package is given its own section by value.
package config

import "github.com/myelin-chat/myelin/matrix"

// Config is everything that can be set.
type Config struct {
	// The name that user IDs, room aliases and other servers use. It can never change. The only setting without a
	// default.
	ServerName matrix.ServerName `yaml:"server_name"`
	// Directory of everything the server keeps: the SQLite database, media, the signing key, the control socket.
	// Made if absent.
	DataDir string `yaml:"data_dir"`
	// Where the server listens. The flag `--listen ADDR` and MYELIN_LISTEN replace the list by one plain listener
	// that serves everything.
	Listen []Listener `yaml:"listen"`
	// Networks of reverse proxies, such as `10.0.0.0/8`, or single addresses. From there the header X-Forwarded-For is
	// believed, which says whose request it is; rate limits and lists of devices go by that. The addresses of this
	// machine itself are always believed.
	TrustedProxies []string `yaml:"trusted_proxies"`
	// The address at which clients reach this server. Empty: made from the first listener.
	PublicURL string `yaml:"public_url"`
	// What is answered below /.well-known/matrix.
	WellKnown WellKnown `yaml:"well_known"`
	// `sqlite`: a file in the data directory. Or a `postgres://` URL.
	Database Database `yaml:"database"`
	// `embedded`: the bus lives in the process and opens no port. Or `nats://` URLs, separated by commas.
	NATS NATS `yaml:"nats"`
	// File of the key that signs this server's events; made if absent. Empty: `signing.key` in the data directory.
	SigningKey string `yaml:"signing_key"`
	// Who may make an account: nobody (`closed`), who has a registration token (`token`), anybody (`open`).
	Registration Registration `yaml:"registration"`
	// Secret of programs that make accounts through /_synapse/admin/v1/register. Empty: that endpoint is off.
	RegistrationSharedSecret Secret `yaml:"registration_shared_secret"`
	// Whether guest accounts can be made.
	Guests bool `yaml:"guests"`
	// Version of new rooms, unless their creator asks for another.
	DefaultRoomVersion matrix.RoomVersion `yaml:"default_room_version"`
	// Talking to other servers.
	Federation Federation `yaml:"federation"`
	// Requests that leave this server.
	Outbound Outbound `yaml:"outbound"`
	// How often one client may ask. Each limit is a bucket of `burst` requests, refilled at `per_second`; per user,
	// and per address where there is no user yet.
	RateLimits RateLimits `yaml:"rate_limits"`
	// Files that users upload or fetch. No effect yet.
	Media Media `yaml:"media"`
	// Work factor of bcrypt for passwords. Each step doubles the time of a login.
	PasswordHashCost int `yaml:"password_hash_cost"`
	// What is written to standard error.
	Log Log `yaml:"log"`
	// Registration files of application services. No effect yet.
	AppServices []string `yaml:"app_services"`
	// The mail server through which this one sends. No effect yet.
	SMTP SMTP `yaml:"smtp"`
	// The relay that clients are given for calls.
	TURN TURN `yaml:"turn"`
}

// Listener is one address to listen on.
type Listener struct {
	// `host:port`. An empty host means every address of the machine.
	Address string `yaml:"address"`
	// Certificate chain (PEM) to serve HTTPS with; empty for plain HTTP behind a proxy.
	TLSCert string `yaml:"tls_cert"`
	// The certificate's private key (PEM).
	TLSKey string `yaml:"tls_key"`
	// What is served here: any of `client`, `federation`, `media`, `admin`, `metrics`. Empty: all.
	Serve []Service `yaml:"serve"`
}

// TLS says whether the listener serves HTTPS.
func (l Listener) TLS() bool { return l.TLSCert != "" }

// Serves says whether the listener serves s.
func (l Listener) Serves(s Service) bool {
	for _, served := range l.Serve {
		if served == s {
			return true
		}
	}
	return len(l.Serve) == 0
}

// WellKnown is the content of the discovery files.
type WellKnown struct {
	// Base URL for clients. Empty: /.well-known/matrix/client is not served.
	Client string `yaml:"client"`
	// `host:port` for other servers. Empty: /.well-known/matrix/server is not served.
	Server string `yaml:"server"`
}

// Federation is about other servers.
type Federation struct {
	// Whether this server talks to others.
	Enabled bool `yaml:"enabled"`
	// Certificate authorities (PEM) to trust. Empty: those of the system.
	CAFile string `yaml:"ca_file"`
	// Accept any certificate. For tests only.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
	// The only servers to talk to, `*.example.org` for all below a name. Empty: all.
	Allow []string `yaml:"allow"`
	// Servers not to talk to, written as in `allow`.
	Deny []string `yaml:"deny"`
	// Servers that are asked for the keys of others that cannot be reached.
	KeyServers []matrix.ServerName `yaml:"key_servers"`
}

// Outbound is about requests to elsewhere.
type Outbound struct {
	// Permit addresses of private networks and of this machine. For tests and private networks: otherwise users
	// could make this server ask its neighbours.
	AllowPrivateAddresses bool `yaml:"allow_private_addresses"`
}

// RateLimits are named by what they limit.
type RateLimits struct {
	// Whether limits apply.
	Enabled bool `yaml:"enabled"`
	// Logging in, and trying passwords or tokens elsewhere.
	Login Limit `yaml:"login"`
	// Making accounts, and asking whether a name is free.
	Register Limit `yaml:"register"`
	// Sending events, state and redactions.
	Send Limit `yaml:"send"`
	// Joining, knocking and leaving.
	Join Limit `yaml:"join"`
	// Inviting, kicking and banning.
	Invite Limit `yaml:"invite"`
	// Making rooms.
	CreateRoom Limit `yaml:"create_room"`
	// Typing, receipts and presence.
	Ephemeral Limit `yaml:"ephemeral"`
	// Syncing.
	Sync Limit `yaml:"sync"`
	// Reading anything else.
	Read Limit `yaml:"read"`
	// Writing anything else: profiles, account data, devices and messages to them, filters, aliases.
	Write Limit `yaml:"write"`
	// Administration.
	Admin Limit `yaml:"admin"`
}

// Limit is a bucket of Burst requests that is refilled at PerSecond.
type Limit struct {
	// Requests that may be made in the long run, each second.
	PerSecond float64 `yaml:"per_second"`
	// Requests that may be made at once.
	Burst int `yaml:"burst"`
}

// Media is about files.
type Media struct {
	// Directory of the files. Empty: `media` in the data directory.
	Path string `yaml:"path"`
	// Size of the largest file that may be uploaded.
	MaxUploadBytes int64 `yaml:"max_upload_bytes"`
	// The only content types that may be uploaded, such as `image/*`. Empty: all.
	AllowedTypes []string `yaml:"allowed_types"`
	// Space for files of other servers; the longest unused are dropped and fetched again when needed.
	RemoteCacheBytes int64 `yaml:"remote_cache_bytes"`
	// Whether clients may have this server fetch web pages to show what links lead to.
	URLPreviews bool `yaml:"url_previews"`
}

// Log is about log lines.
type Log struct {
	// The least that is written: `debug`, `info`, `warn` or `error`.
	Level string `yaml:"level"`
	// `text` or `json`.
	Format string `yaml:"format"`
}

// SMTP is a mail server.
type SMTP struct {
	// `host:port`. Empty: no mail is sent.
	Address string `yaml:"address"`
	// Name to sign in with. Empty: without signing in.
	Username string `yaml:"username"`
	// Password to sign in with.
	Password Secret `yaml:"password"`
	// Sender of the mails.
	From string `yaml:"from"`
	// `starttls`, `tls` from the first byte, or `none`.
	TLS string `yaml:"tls"`
}

// TURN is a relay for calls.
type TURN struct {
	// `turn:`, `turns:` and `stun:` URIs given to clients. Empty: none.
	URIs []string `yaml:"uris"`
	// Secret shared with the relay, from which credentials of short life are made.
	SharedSecret Secret `yaml:"shared_secret"`
	// How long those credentials are good for.
	LifetimeSeconds int `yaml:"lifetime_seconds"`
}
