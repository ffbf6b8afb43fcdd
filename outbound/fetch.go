package outbound

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Rules bound one kind of request. MaxBytes and Timeout must be set.
type Rules struct {
	MaxBytes  int64         // of the answer's body, decompressed
	Timeout   time.Duration // until the end of the body
	Redirects int           // how many are followed; with 0 a redirect is an answer like any other
	PlainHTTP bool          // whether http:// will do, at first or after a redirect
}

// Request is a request to anywhere but a homeserver.
type Request struct {
	Method string // empty: GET
	URL    string
	Header http.Header
	Body   []byte
	Rules  Rules
}

// Do makes a request. Every status is an answer; the caller closes it.
func (c *Client) Do(ctx context.Context, r Request) (*Response, error) {
	return c.do(ctx, c.web, r)
}

func (c *Client) do(ctx context.Context, over http.RoundTripper, r Request) (*Response, error) {
	target, err := url.Parse(r.URL)
	if err != nil || target.Host == "" || !r.Rules.permitScheme(target) {
		return nil, fmt.Errorf("request: %q is not a URL that is asked", r.URL)
	}
	ctx, cancel := context.WithTimeout(ctx, r.Rules.Timeout)
	request, err := http.NewRequestWithContext(ctx, r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		cancel()
		return nil, fmt.Errorf("request: %w", err)
	}
	if r.Header != nil {
		request.Header = r.Header.Clone()
	}
	request.Header.Set("User-Agent", c.settings.UserAgent)
	client := http.Client{Transport: over, CheckRedirect: r.Rules.checkRedirect}
	answer, err := client.Do(request)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("ask %s: %w", target.Host, withoutURL(err))
	}
	return newResponse(answer, r.Rules.MaxBytes, cancel)
}

func (r Rules) permitScheme(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && r.PlainHTTP
}

// checkRedirect decides on the next of a row of redirects. The address it leads to is checked when it is dialled.
func (r Rules) checkRedirect(next *http.Request, before []*http.Request) error {
	next.Header.Del("Referer")
	if r.Redirects == 0 {
		return http.ErrUseLastResponse
	}
	if len(before) > r.Redirects {
		return fmt.Errorf("more than %d redirects", r.Redirects)
	}
	if !r.permitScheme(next.URL) {
		return fmt.Errorf("redirected to %s, which is not asked", next.URL.Scheme)
	}
	for _, earlier := range before {
		if earlier.URL.String() == next.URL.String() {
			return errors.New("redirected in a circle")
		}
	}
	return nil
}

// withoutURL takes from an error of net/http the URL, which may be secret or mean nothing.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// ErrTooLarge says that an answer is larger than what is read of it.
var ErrTooLarge = errors.New("the answer is too large")

// Response is an answer. Body ends with ErrTooLarge where the limit is, and with an error when the time is over; it
// has to be closed, which Bytes does.
type Response struct {
	Status int
	Header http.Header
	Body   io.ReadCloser
}

func newResponse(r *http.Response, maxBytes int64, cancel context.CancelFunc) (*Response, error) {
	if r.ContentLength > maxBytes {
		r.Body.Close()
		cancel()
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrTooLarge, r.ContentLength, maxBytes)
	}
	body := &boundedBody{ReadCloser: r.Body, left: maxBytes, cancel: cancel}
	return &Response{Status: r.StatusCode, Header: r.Header, Body: body}, nil
}

// Bytes reads the whole body, and closes it.
func (r *Response) Bytes() ([]byte, error) {
	defer r.Body.Close()
	return io.ReadAll(r.Body)
}

// Close gives up what was not read.
func (r *Response) Close() error { return r.Body.Close() }

// boundedBody lets through so many bytes, and ends the request when it is closed.
type boundedBody struct {
	io.ReadCloser
	left   int64
	cancel context.CancelFunc
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n, b.left = int(b.left), 0
		return n, ErrTooLarge
	}
	b.left -= int64(n)
	return n, err
}

// Close implements io.Closer.
func (b *boundedBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}
