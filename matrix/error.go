package matrix

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
)

// Error is an answer to a client or another server: what went wrong, in the
// protocol's own terms. The code that knows the reason makes it, and it comes
// up unchanged or wrapped. Each call makes a new Error; With and WithStatus
// change it in place and are meant for where it is made.
//
// https://spec.matrix.org/v1.19/client-server-api/#standard-error-response
type Error struct {
	Code       ErrorCode
	Message    string         // for people; shown to the caller
	HTTPStatus int            // 0 = the usual one of the code
	Fields     map[string]any // further members of the body, such as "retry_after_ms"
}

// Errorf makes an error with a message for the caller.
func Errorf(code ErrorCode, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithStatus sets the HTTP status, where an endpoint differs from the usual.
func (e *Error) WithStatus(status int) *Error {
	e.HTTPStatus = status
	return e
}

// With adds a member to the body, for example "soft_logout".
func (e *Error) With(key string, value any) *Error {
	if e.Fields == nil {
		e.Fields = make(map[string]any, 1)
	}
	e.Fields[key] = value
	return e
}

// Error returns code and message.
func (e *Error) Error() string {
	return string(e.Code) + ": " + e.Message
}

// Status returns the HTTP status to answer with.
func (e *Error) Status() int {
	if e.HTTPStatus != 0 {
		return e.HTTPStatus
	}
	return e.Code.Status()
}

// CodeOf returns the code that err is answered with: that of the Error in its
// chain, Unknown for any other error, "" for nil.
func CodeOf(err error) ErrorCode {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Unknown
}

// MarshalJSON returns the body of the answer. The code and message cannot be
// overwritten by a field.
func (e *Error) MarshalJSON() ([]byte, error) {
	body := make(map[string]any, len(e.Fields)+2)
	maps.Copy(body, e.Fields)
	body["errcode"] = e.Code
	body["error"] = e.Message
	return json.Marshal(body)
}
