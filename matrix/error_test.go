package matrix_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
)

func TestStatus(t *testing.T) {
	for code, want := range map[matrix.ErrorCode]int{
		matrix.Forbidden:     http.StatusForbidden,
		matrix.UnknownToken:  http.StatusUnauthorized,
		matrix.MissingToken:  http.StatusUnauthorized,
		matrix.BadJSON:       http.StatusBadRequest,
		matrix.NotFound:      http.StatusNotFound,
		matrix.Unrecognized:  http.StatusNotFound,
		matrix.LimitExceeded: http.StatusTooManyRequests,
		matrix.TooLarge:      http.StatusRequestEntityTooLarge,
		matrix.Unknown:       http.StatusInternalServerError,
		"M_OF_ANOTHER_WORLD": http.StatusInternalServerError,
	} {
		if got := code.Status(); got != want {
			t.Errorf("%s: got status %d, want %d", code, got, want)
		}
		if got := matrix.Errorf(code, "").Status(); got != want {
			t.Errorf("error of %s: got status %d, want %d", code, got, want)
		}
	}
	e := matrix.Errorf(matrix.Unrecognized, "no such method").WithStatus(http.StatusMethodNotAllowed)
	if got := e.Status(); got != http.StatusMethodNotAllowed {
		t.Errorf("got status %d, want 405", got)
	}
}

func TestErrorBody(t *testing.T) {
	for want, e := range map[string]*matrix.Error{
		`{"errcode":"M_FORBIDDEN","error":"not you"}`: matrix.Errorf(matrix.Forbidden, "not %s", "you"),
		`{"errcode":"M_LIMIT_EXCEEDED","error":"slow down","retry_after_ms":20}`: matrix.Errorf(matrix.LimitExceeded, "slow down").
			With("retry_after_ms", 20),
		`{"errcode":"M_UNKNOWN_TOKEN","error":"gone","soft_logout":true}`: matrix.Errorf(matrix.UnknownToken, "gone").
			With("soft_logout", true).With("errcode", "M_OTHER"),
	} {
		got, err := json.Marshal(e)
		if err != nil || string(got) != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
}

func TestCodeOf(t *testing.T) {
	e := matrix.Errorf(matrix.NotFound, "no room %s", "!a:b")
	for _, c := range []struct {
		err  error
		want matrix.ErrorCode
	}{
		{nil, ""},
		{e, matrix.NotFound},
		{fmt.Errorf("join: %w", e), matrix.NotFound},
		{errors.New("disk on fire"), matrix.Unknown},
	} {
		if got := matrix.CodeOf(c.err); got != c.want {
			t.Errorf("%v: got code %q, want %q", c.err, got, c.want)
		}
	}
	if got, want := e.Error(), "M_NOT_FOUND: no room !a:b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestEveryCodeHasAStatus reads the constants from the source: one without a
// line in the table would silently be a 500.
func TestEveryCodeHasAStatus(t *testing.T) {
	source, err := os.ReadFile("error_code.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`ErrorCode\s*= "(M_\w+)"`).FindAllSubmatch(source, -1)
	if len(codes) < 50 {
		t.Fatalf("got %d codes, want all of the specification", len(codes))
	}
	for _, c := range codes {
		code := matrix.ErrorCode(c[1])
		if code != matrix.Unknown && code.Status() == http.StatusInternalServerError {
			t.Errorf("%s has no usual status", code)
		}
	}
}
