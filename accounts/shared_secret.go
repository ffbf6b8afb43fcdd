package accounts

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/users"
)

const (
	nonceLife = time.Minute
	maxNonces = 1000
)

// userTypes are the types that programs give to accounts.
var userTypes = []string{"", "bot", "support"}

// SharedSecretRegistration is how a program that knows the shared secret makes an account, in the form of Synapse's
// /_synapse/admin/v1/register, which tools and tests speak.
type SharedSecretRegistration struct {
	Nonce       string // of RegistrationNonce
	Username    string
	Password    string
	DisplayName string
	UserType    string
	Admin       bool
	MAC         string // hexadecimal
}

// mac is HMAC-SHA1 over the fields with NUL between them. SHA-1 is part of the format, and HMAC with it is not broken.
func (r SharedSecretRegistration) mac(secret string) []byte {
	role := "notadmin"
	if r.Admin {
		role = "admin"
	}
	fields := []string{r.Nonce, r.Username, r.Password, role}
	if r.UserType != "" {
		fields = append(fields, r.UserType)
	}
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(strings.Join(fields, "\x00")))
	return mac.Sum(nil)
}

// RegistrationNonce returns a nonce for one registration with the shared secret.
func (a *Accounts) RegistrationNonce() (string, error) {
	if err := a.sharedSecretInUse(); err != nil {
		return "", err
	}
	nonce, err := a.randomText(secretBytes)
	if err == nil {
		a.nonces.add(nonce, struct{}{}, a.settings.Now())
	}
	return nonce, err
}

func (a *Accounts) sharedSecretInUse() error {
	if a.settings.SharedSecret == "" {
		return matrix.Errorf(matrix.Unknown, "registration with a shared secret is off on this server").WithStatus(400)
	}
	return nil
}

// RegisterWithSharedSecret makes an account, even where registration is closed, and logs in. The nonce is used up
// whatever comes of it.
func (a *Accounts) RegisterWithSharedSecret(ctx context.Context, in SharedSecretRegistration) (Session, error) {
	if err := a.checkSharedSecret(in); err != nil {
		return Session{}, err
	}
	displayName, err := displayNameValue(in.DisplayName)
	if err != nil {
		return Session{}, err
	}
	if err := a.free(ctx, in.Username); err != nil {
		return Session{}, err
	}
	hash, err := a.hasher.hash(ctx, in.Password)
	if err != nil {
		return Session{}, err
	}
	out, err := a.create(ctx, newAccount{
		username: in.Username, user: users.User{PasswordHash: hash, Admin: in.Admin, Type: in.UserType},
	})
	if err == nil {
		_, err = a.SetProfileField(ctx, out.User, DisplayName, displayName)
	}
	return out, err
}

func (a *Accounts) checkSharedSecret(in SharedSecretRegistration) error {
	if err := a.sharedSecretInUse(); err != nil {
		return err
	}
	if _, ok := a.nonces.take(in.Nonce, a.settings.Now()); !ok {
		return matrix.Errorf(matrix.Unknown, "unknown nonce: it has been used or is older than a minute").WithStatus(400)
	}
	given, err := hex.DecodeString(in.MAC)
	if err != nil {
		return matrix.Errorf(matrix.InvalidParam, "mac is not hexadecimal")
	}
	if strings.ContainsRune(in.Username+in.Password+in.UserType, 0) {
		return matrix.Errorf(matrix.InvalidParam, "no field may contain NUL")
	}
	if !hmac.Equal(given, in.mac(string(a.settings.SharedSecret))) {
		return matrix.Errorf(matrix.Forbidden, "the mac does not match")
	}
	if !slices.Contains(userTypes, in.UserType) {
		return matrix.Errorf(matrix.InvalidParam, "unknown user type")
	}
	return checkNewPassword(in.Password)
}
