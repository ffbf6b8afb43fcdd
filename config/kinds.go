package config

import (
	"iter"
	"log/slog"
	"net/url"
	"reflect"
	"strings"
)

// Service is a part of the server that a listener may serve.
type Service string

// What a listener may serve.
const (
	Client     Service = "client"
	Federating Service = "federation"
	MediaFiles Service = "media"
	Admin      Service = "admin"
	Metrics    Service = "metrics"
)

var services = []Service{Client, Federating, MediaFiles, Admin, Metrics}

// Registration says who may make an account.
type Registration string

// Who may make an account.
const (
	Closed    Registration = "closed"
	WithToken Registration = "token"
	Open      Registration = "open"
)

// masked is shown in place of a secret.
const masked = "********"

// Secret is text that is never printed or logged: convert it to string where it is used.
type Secret string

// String masks the secret, and so do the two methods below for printing as YAML and for logs.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

// MarshalYAML implements yaml.Marshaler.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Database is `sqlite` or a postgres:// URL. A password in it is masked when it is printed or logged.
type Database string

// String masks the password.
func (d Database) String() string { return maskURL(string(d)) }

// MarshalYAML implements yaml.Marshaler.
func (d Database) MarshalYAML() (any, error) { return d.String(), nil }

// LogValue implements slog.LogValuer.
func (d Database) LogValue() slog.Value { return slog.StringValue(d.String()) }

// NATS is `embedded` or nats:// URLs. Passwords and tokens in it are masked when it is printed or logged.
type NATS string

// String masks passwords and tokens.
func (n NATS) String() string {
	urls := strings.Split(string(n), ",")
	for i, u := range urls {
		urls[i] = maskURL(strings.TrimSpace(u))
	}
	return strings.Join(urls, ",")
}

// MarshalYAML implements yaml.Marshaler.
func (n NATS) MarshalYAML() (any, error) { return n.String(), nil }

// LogValue implements slog.LogValuer.
func (n NATS) LogValue() slog.Value { return slog.StringValue(n.String()) }

// maskURL hides what may be secret in a URL: the password, a user name without one (a NATS token), and the query
// parameters of PostgreSQL that hold passwords. A text that looks like a URL but is none is hidden whole.
func maskURL(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	u, err := url.Parse(text)
	if err != nil {
		return masked
	}
	if u.User != nil {
		u.User = maskUser(u)
	}
	query := u.Query()
	for name := range query {
		if strings.Contains(strings.ToLower(name), "password") {
			query.Set(name, masked)
		}
	}
	if u.RawQuery != "" {
		u.RawQuery = query.Encode()
	}
	return strings.ReplaceAll(u.String(), url.QueryEscape(masked), masked)
}

func maskUser(u *url.URL) *url.Userinfo {
	if _, ok := u.User.Password(); ok {
		return url.UserPassword(u.User.Username(), masked)
	}
	if strings.HasPrefix(u.Scheme, "postgres") {
		return u.User
	}
	return url.User(masked)
}

// All goes through the limits with their names.
func (r RateLimits) All() iter.Seq2[string, Limit] {
	return func(yield func(string, Limit) bool) {
		limits := reflect.ValueOf(r)
		for i := range limits.NumField() {
			limit, ok := limits.Field(i).Interface().(Limit)
			if ok && !yield(keyOf(limits.Type(), i), limit) {
				return
			}
		}
	}
}
