package outbound

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

const (
	// DefaultMaxBytes is read of an answer where a call does not say otherwise.
	DefaultMaxBytes = 8 << 20
	// DefaultTimeout is how long a call may take where it does not say otherwise.
	DefaultTimeout = 30 * time.Second

	maxErrorBytes   = 64 << 10
	maxMessageBytes = 500 // of what another server says of its error
	maxRetryAfter   = 24 * time.Hour
)

// Call is a request to another homeserver.
type Call struct {
	To       matrix.ServerName
	Method   string        // empty: GET
	URI      string        // path, as Path makes it, and query
	Content  []byte        // JSON, sent in its canonical form; nil: no body
	Unsigned bool          // for the few requests that anybody may make
	Lone     bool          // the caller waits for it before the next to this server: then HTTP/1.1 does it at half the cost
	MaxBytes int64         // of the answer; 0: DefaultMaxBytes
	Timeout  time.Duration // until the end of the answer; 0: DefaultTimeout
}

// Path joins segments to a path, and escapes what is in them.
func Path(segments ...string) string {
	var b strings.Builder
	for _, segment := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(segment))
	}
	return b.String()
}

// RemoteError says that another homeserver answered with an error.
type RemoteError struct {
	Server     matrix.ServerName
	Status     int
	Code       matrix.ErrorCode // empty: the answer has none
	Message    string           // of the other server, to be taken as such
	RetryAfter time.Duration    // 0: it did not say
}

// Error names the server, and what it said.
func (e *RemoteError) Error() string {
	return fmt.Sprintf("%s answered %d %s %q", e.Server, e.Status, e.Code, e.Message)
}

// Call makes a request to another homeserver and returns its answer, which the caller closes. An answer with another
// status than 2xx is a *RemoteError; redirects are not followed. A server that is not talked to gives a *matrix.Error.
func (c *Client) Call(ctx context.Context, call Call) (*Response, error) {
	if err := c.Permits(call.To); err != nil {
		return nil, err
	}
	if call.To == c.settings.ServerName {
		return nil, fmt.Errorf("a request to %s itself, which is this server", call.To)
	}
	if call.Method == "" {
		call.Method = http.MethodGet
	}
	if call.MaxBytes == 0 {
		call.MaxBytes = DefaultMaxBytes
	}
	if call.Timeout == 0 {
		call.Timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, call.Timeout)
	answer, err := c.roundTrip(ctx, call)
	if err != nil {
		cancel()
		return nil, err
	}
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		defer cancel()
		return nil, c.remoteError(call.To, answer)
	}
	response, err := newResponse(answer, call.MaxBytes, cancel)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", call.To, err)
	}
	return response, nil
}

// Bytes makes a request and returns the whole answer.
func (c *Client) Bytes(ctx context.Context, call Call) ([]byte, error) {
	answer, err := c.Call(ctx, call)
	if err != nil {
		return nil, err
	}
	text, err := answer.Bytes()
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", call.To, err)
	}
	return text, nil
}

// JSON makes a request and decodes the answer.
func (c *Client) JSON(ctx context.Context, call Call, into any) error {
	text, err := c.Bytes(ctx, call)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the answer of %s: %w", call.To, err)
	}
	return nil
}

func (c *Client) roundTrip(ctx context.Context, call Call) (*http.Response, error) {
	route, err := c.discovery.route(ctx, call.To)
	if err != nil {
		return nil, err
	}
	request, err := c.newRequest(context.WithValue(ctx, routeKey{}, route), call, route)
	if err != nil {
		return nil, fmt.Errorf("request to %s: %w", call.To, err)
	}
	transport := c.peers
	if call.Lone {
		transport = c.lone
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		// That the caller does not wait any more says nothing about the way there; that it took too long does.
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			c.discovery.doubt(call.To)
		}
		return nil, fmt.Errorf("ask %s: %w", call.To, err)
	}
	return answer, nil
}

// newRequest makes the request of net/http. The host of its URL is the route's identifier, by which connections are
// kept: so servers that are reached in the same way share them, and none is used for another way.
func (c *Client) newRequest(ctx context.Context, call Call, route *Route) (*http.Request, error) {
	content := call.Content
	if content != nil {
		var err error
		// Lenient: events of old room versions, with what they have of numbers, are sent, too.
		if content, err = canonical.JSON(content, canonical.Lenient); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, call.Method, "https://"+route.id+call.URI, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	if request.URL.RequestURI() != call.URI || request.URL.Host != route.id {
		return nil, fmt.Errorf("%q is not an escaped path and query", call.URI)
	}
	request.Host = route.Host
	request.Header.Set("User-Agent", c.settings.UserAgent)
	request.Header.Set("Accept", "application/json")
	if content != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if call.Method == http.MethodPut {
		// PUT may be repeated on another connection if the one that was kept turns out to be dead. The header is not
		// sent: see http.Transport.
		request.Header["Idempotency-Key"] = nil
	}
	if !call.Unsigned {
		request.Header.Set("Authorization", c.authorization(call, content).String())
	}
	return request, nil
}

func (c *Client) authorization(call Call, content []byte) Authorization {
	return SignedRequest{
		Method: call.Method, URI: call.URI,
		Origin: c.settings.ServerName, Destination: call.To, Content: content,
	}.Sign(c.settings.Key)
}

// remoteError reads an answer that is an error, and closes it.
func (c *Client) remoteError(s matrix.ServerName, answer *http.Response) error {
	e := &RemoteError{Server: s, Status: answer.StatusCode}
	body := &boundedBody{ReadCloser: answer.Body, left: maxErrorBytes, cancel: func() {}}
	text, err := (&Response{Body: body}).Bytes()
	var said struct {
		Code         matrix.ErrorCode `json:"errcode"`
		Message      string           `json:"error"`
		RetryAfterMS float64          `json:"retry_after_ms"`
	}
	if err == nil && json.Unmarshal(text, &said) == nil {
		e.Code = matrix.ErrorCode(shorten(string(said.Code)))
		e.Message = shorten(said.Message)
	}
	e.RetryAfter = retryAfter(answer.Header, c.settings.Now())
	if e.RetryAfter == 0 && said.RetryAfterMS > 0 {
		e.RetryAfter = time.Duration(min(said.RetryAfterMS, float64(maxRetryAfter/time.Millisecond))) * time.Millisecond
	}
	return e
}

func shorten(s string) string {
	if len(s) <= maxMessageBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxMessageBytes], "") + "..."
}

// retryAfter is what the header says, in seconds or as a date; 0 if nothing.
// https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	wait, ok := parseSeconds(value)
	if at, err := http.ParseTime(value); !ok && err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}
