package config

import (
	"net"
	"path/filepath"
)

// Default returns the settings of a server of which nothing was said but its name.
func Default() Config {
	return Config{
		DataDir:            "./data",
		Listen:             []Listener{{Address: "127.0.0.1:8008"}},
		Database:           "sqlite",
		NATS:               "embedded",
		Registration:       Closed,
		DefaultRoomVersion: "12",
		Federation:         Federation{Enabled: true},
		RateLimits:         defaultLimits(),
		Media:              Media{MaxUploadBytes: 100 << 20, RemoteCacheBytes: 10 << 30},
		PasswordHashCost:   12,
		Log:                Log{Level: "info", Format: "text"},
		SMTP:               SMTP{TLS: "starttls"},
		TURN:               TURN{LifetimeSeconds: 86400},
	}
}

// defaultLimits never stop a person with a client. Login and register are slow on purpose: they guard passwords, names
// and the cost of a hash. The bursts of join, sync and read let a client that starts up fetch what it needs.
func defaultLimits() RateLimits {
	return RateLimits{
		Enabled:    true,
		Login:      Limit{PerSecond: 0.2, Burst: 10},
		Register:   Limit{PerSecond: 0.2, Burst: 10},
		Send:       Limit{PerSecond: 10, Burst: 50},
		Join:       Limit{PerSecond: 2, Burst: 30},
		Invite:     Limit{PerSecond: 2, Burst: 50},
		CreateRoom: Limit{PerSecond: 0.2, Burst: 10},
		Ephemeral:  Limit{PerSecond: 10, Burst: 50},
		Sync:       Limit{PerSecond: 20, Burst: 100},
		Read:       Limit{PerSecond: 50, Burst: 300},
		Write:      Limit{PerSecond: 10, Burst: 100},
		Admin:      Limit{PerSecond: 20, Burst: 100},
	}
}

// derive fills in the settings whose default depends on others.
func (c *Config) derive() {
	if c.SigningKey == "" {
		c.SigningKey = filepath.Join(c.DataDir, "signing.key")
	}
	if c.Media.Path == "" {
		c.Media.Path = filepath.Join(c.DataDir, "media")
	}
	if c.PublicURL == "" && len(c.Listen) > 0 {
		c.PublicURL = c.Listen[0].url()
	}
}

// url is the address at which a client on this machine reaches the listener; empty if the listener's address is wrong,
// which Validate tells.
func (l Listener) url() string {
	host, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	scheme := "http"
	if l.TLS() {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
