package matrix

import "net/http"

// ErrorCode is the "errcode" of an answer.
//
// https://spec.matrix.org/v1.19/client-server-api/#common-error-codes
type ErrorCode string

// The codes of the specification.
const (
	AppserviceLoginUnsupported  ErrorCode = "M_APPSERVICE_LOGIN_UNSUPPORTED"
	BadAlias                    ErrorCode = "M_BAD_ALIAS"
	BadJSON                     ErrorCode = "M_BAD_JSON"
	BadState                    ErrorCode = "M_BAD_STATE"
	BadStatus                   ErrorCode = "M_BAD_STATUS"
	CannotLeaveServerNoticeRoom ErrorCode = "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM"
	CannotOverwriteMedia        ErrorCode = "M_CANNOT_OVERWRITE_MEDIA"
	CaptchaInvalid              ErrorCode = "M_CAPTCHA_INVALID"
	CaptchaNeeded               ErrorCode = "M_CAPTCHA_NEEDED"
	ConnectionFailed            ErrorCode = "M_CONNECTION_FAILED"
	ConnectionTimeout           ErrorCode = "M_CONNECTION_TIMEOUT"
	DuplicateAnnotation         ErrorCode = "M_DUPLICATE_ANNOTATION"
	Exclusive                   ErrorCode = "M_EXCLUSIVE"
	Forbidden                   ErrorCode = "M_FORBIDDEN"
	GuestAccessForbidden        ErrorCode = "M_GUEST_ACCESS_FORBIDDEN"
	IncompatibleRoomVersion     ErrorCode = "M_INCOMPATIBLE_ROOM_VERSION"
	InvalidParam                ErrorCode = "M_INVALID_PARAM"
	InvalidRoomState            ErrorCode = "M_INVALID_ROOM_STATE"
	InvalidSignature            ErrorCode = "M_INVALID_SIGNATURE"
	InvalidUsername             ErrorCode = "M_INVALID_USERNAME"
	InviteBlocked               ErrorCode = "M_INVITE_BLOCKED"
	KeyTooLarge                 ErrorCode = "M_KEY_TOO_LARGE"
	LimitExceeded               ErrorCode = "M_LIMIT_EXCEEDED"
	MissingParam                ErrorCode = "M_MISSING_PARAM"
	MissingToken                ErrorCode = "M_MISSING_TOKEN"
	NoValidSession              ErrorCode = "M_NO_VALID_SESSION"
	NotFound                    ErrorCode = "M_NOT_FOUND"
	NotJSON                     ErrorCode = "M_NOT_JSON"
	NotYetUploaded              ErrorCode = "M_NOT_YET_UPLOADED"
	ProfileTooLarge             ErrorCode = "M_PROFILE_TOO_LARGE"
	ResourceLimitExceeded       ErrorCode = "M_RESOURCE_LIMIT_EXCEEDED"
	RoomInUse                   ErrorCode = "M_ROOM_IN_USE"
	ServerNotTrusted            ErrorCode = "M_SERVER_NOT_TRUSTED"
	SessionNotValidated         ErrorCode = "M_SESSION_NOT_VALIDATED"
	TermsNotSigned              ErrorCode = "M_TERMS_NOT_SIGNED"
	ThreepidAuthFailed          ErrorCode = "M_THREEPID_AUTH_FAILED"
	ThreepidDenied              ErrorCode = "M_THREEPID_DENIED"
	ThreepidInUse               ErrorCode = "M_THREEPID_IN_USE"
	ThreepidMediumNotSupported  ErrorCode = "M_THREEPID_MEDIUM_NOT_SUPPORTED"
	ThreepidNotFound            ErrorCode = "M_THREEPID_NOT_FOUND"
	TooLarge                    ErrorCode = "M_TOO_LARGE"
	UnableDueToPartialState     ErrorCode = "M_UNABLE_DUE_TO_PARTIAL_STATE" // MSC3895, not of the specification
	UnableToAuthoriseJoin       ErrorCode = "M_UNABLE_TO_AUTHORISE_JOIN"
	UnableToGrantJoin           ErrorCode = "M_UNABLE_TO_GRANT_JOIN"
	Unauthorized                ErrorCode = "M_UNAUTHORIZED"
	Unknown                     ErrorCode = "M_UNKNOWN"
	UnknownDevice               ErrorCode = "M_UNKNOWN_DEVICE"
	UnknownToken                ErrorCode = "M_UNKNOWN_TOKEN"
	Unrecognized                ErrorCode = "M_UNRECOGNIZED"
	UnsupportedRoomVersion      ErrorCode = "M_UNSUPPORTED_ROOM_VERSION"
	URLNotSet                   ErrorCode = "M_URL_NOT_SET"
	UserDeactivated             ErrorCode = "M_USER_DEACTIVATED"
	UserInUse                   ErrorCode = "M_USER_IN_USE"
	UserLimitExceeded           ErrorCode = "M_USER_LIMIT_EXCEEDED"
	UserLocked                  ErrorCode = "M_USER_LOCKED"
	UserSuspended               ErrorCode = "M_USER_SUSPENDED"
	WeakPassword                ErrorCode = "M_WEAK_PASSWORD"
	WrongRoomKeysVersion        ErrorCode = "M_WRONG_ROOM_KEYS_VERSION"
)

// usualStatus has the HTTP status that a code mostly goes with. An endpoint
// for which the specification says otherwise uses [Error.WithStatus].
var usualStatus = map[ErrorCode]int{
	AppserviceLoginUnsupported:  http.StatusBadRequest,
	BadAlias:                    http.StatusBadRequest,
	BadJSON:                     http.StatusBadRequest,
	BadState:                    http.StatusForbidden,
	BadStatus:                   http.StatusBadGateway,
	CannotLeaveServerNoticeRoom: http.StatusForbidden,
	CannotOverwriteMedia:        http.StatusConflict,
	CaptchaInvalid:              http.StatusUnauthorized,
	CaptchaNeeded:               http.StatusUnauthorized,
	ConnectionFailed:            http.StatusBadGateway,
	ConnectionTimeout:           http.StatusGatewayTimeout,
	DuplicateAnnotation:         http.StatusBadRequest,
	Exclusive:                   http.StatusBadRequest,
	Forbidden:                   http.StatusForbidden,
	GuestAccessForbidden:        http.StatusForbidden,
	IncompatibleRoomVersion:     http.StatusBadRequest,
	InvalidParam:                http.StatusBadRequest,
	InvalidRoomState:            http.StatusBadRequest,
	InvalidSignature:            http.StatusBadRequest,
	InvalidUsername:             http.StatusBadRequest,
	InviteBlocked:               http.StatusForbidden,
	KeyTooLarge:                 http.StatusBadRequest,
	LimitExceeded:               http.StatusTooManyRequests,
	MissingParam:                http.StatusBadRequest,
	MissingToken:                http.StatusUnauthorized,
	NoValidSession:              http.StatusBadRequest,
	NotFound:                    http.StatusNotFound,
	NotJSON:                     http.StatusBadRequest,
	NotYetUploaded:              http.StatusGatewayTimeout,
	ProfileTooLarge:             http.StatusBadRequest,
	ResourceLimitExceeded:       http.StatusForbidden,
	RoomInUse:                   http.StatusBadRequest,
	ServerNotTrusted:            http.StatusBadRequest,
	SessionNotValidated:         http.StatusBadRequest,
	TermsNotSigned:              http.StatusForbidden,
	ThreepidAuthFailed:          http.StatusForbidden,
	ThreepidDenied:              http.StatusForbidden,
	ThreepidInUse:               http.StatusBadRequest,
	ThreepidMediumNotSupported:  http.StatusBadRequest,
	ThreepidNotFound:            http.StatusBadRequest,
	TooLarge:                    http.StatusRequestEntityTooLarge,
	UnableDueToPartialState:     http.StatusNotFound,
	UnableToAuthoriseJoin:       http.StatusBadRequest,
	UnableToGrantJoin:           http.StatusBadRequest,
	Unauthorized:                http.StatusUnauthorized,
	Unknown:                     http.StatusInternalServerError,
	UnknownDevice:               http.StatusBadRequest,
	UnknownToken:                http.StatusUnauthorized,
	Unrecognized:                http.StatusNotFound,
	UnsupportedRoomVersion:      http.StatusBadRequest,
	URLNotSet:                   http.StatusBadRequest,
	UserDeactivated:             http.StatusForbidden,
	UserInUse:                   http.StatusBadRequest,
	UserLimitExceeded:           http.StatusForbidden,
	UserLocked:                  http.StatusUnauthorized,
	UserSuspended:               http.StatusForbidden,
	WeakPassword:                http.StatusBadRequest,
	WrongRoomKeysVersion:        http.StatusForbidden,
}

// Status returns the usual HTTP status of the code, 500 for one that is not
// in the table.
func (c ErrorCode) Status() int {
	if status, ok := usualStatus[c]; ok {
		return status
	}
	return http.StatusInternalServerError
}
