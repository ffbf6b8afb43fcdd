package signing

import (
	"encoding/base64"
	"strings"

	"github.com/myelin-chat/myelin/matrix"
)

// EncodeBase64 returns b in base64 without padding.
//
// https://spec.matrix.org/v1.19/appendices/#unpadded-base64
func EncodeBase64(b []byte) string { return base64.RawStdEncoding.EncodeToString(b) }

// DecodeBase64 decodes s, with or without padding. Like other servers it also
// takes the URL-safe alphabet.
func DecodeBase64(s string) ([]byte, error) {
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(s, "-_") {
		encoding = base64.RawURLEncoding
	}
	unpadded := s
	if len(s)%4 == 0 {
		unpadded = strings.TrimSuffix(strings.TrimSuffix(s, "="), "=")
	}
	// The decoder skips line breaks, which have no place here.
	b, err := encoding.DecodeString(unpadded)
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil, matrix.Errorf(matrix.InvalidParam, "not base64")
	}
	return b, nil
}
