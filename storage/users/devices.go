package users

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// Device is one session of a user.
type Device struct {
	ID          matrix.DeviceID
	DisplayName string
	CreatedMS   int64
	SeenMS      int64 // 0: not since its login
	SeenIP      string
}

const deviceColumns = `device_id, display_name, created_ms, seen_ms, seen_ip`

func (d *Device) scan(rows storage.Rows) error {
	return rows.Scan(&d.ID, &d.DisplayName, &d.CreatedMS, &d.SeenMS, &d.SeenIP)
}

// Devices returns the devices of user, in order of ID.
func Devices(ctx context.Context, q storage.Querier, user matrix.UserID) ([]Device, error) {
	return storage.List(ctx, q, (*Device).scan, `
		SELECT `+deviceColumns+` FROM devices WHERE user_id = $1 ORDER BY device_id`, user)
}

// DeviceByID returns one device of user.
func DeviceByID(ctx context.Context, q storage.Querier, user matrix.UserID, id matrix.DeviceID) (Device, bool, error) {
	return storage.First(ctx, q, (*Device).scan, `
		SELECT `+deviceColumns+` FROM devices
		WHERE user_id = $1 AND device_id = $2`, user, id)
}

// TokenOwner returns whose access token this is: the active user and the device.
func TokenOwner(ctx context.Context, q storage.Querier, hash TokenHash) (matrix.Requester, bool, error) {
	scan := func(who *matrix.Requester, rows storage.Rows) error {
		err := rows.Scan(&who.Account, &who.Device, &who.Admin, &who.Guest)
		who.User = who.Account
		return err
	}
	return storage.First(ctx, q, scan, `
		SELECT u.user_id, t.device_id, u.admin, u.guest
		FROM access_tokens t JOIN users u ON u.user_id = t.user_id
		WHERE t.token_hash = $1 AND u.deactivated_ms = 0`, hash[:])
}

var devicesTable = storage.NewTable("devices", storage.Ignore, `
	user_id TEXT KEY, device_id TEXT KEY, display_name TEXT, created_ms BIGINT, seen_ms BIGINT, seen_ip TEXT`)

var accessTokensTable = storage.NewTable("access_tokens", storage.Replace, `
	user_id TEXT KEY, device_id TEXT KEY, token_hash BYTEA`)

var deviceChangesTable = storage.NewTable("device_changes", storage.Replace, `
	user_id TEXT KEY, device_id TEXT KEY, position BIGINT`)

// Session is a device that gets an access token. A device that is there keeps its name and loses its older token.
type Session struct {
	Device      matrix.DeviceID
	DisplayName string
	Token       TokenHash
	AtMS        int64
}

// rows stores the device and its token together, and voids what token the device had.
func (s *Session) rows(it *storage.Item, user matrix.UserID) {
	it.Insert(devicesTable, user, s.Device, s.DisplayName, s.AtMS, int64(0), "")
	it.Insert(accessTokensTable, user, s.Device, s.Token[:])
	deviceChanged(it, user, s.Device)
}

// deviceChanged tells those who share a room that they have to look at the user's devices again.
func deviceChanged(it *storage.Item, user matrix.UserID, device matrix.DeviceID) {
	at := it.News(storage.News{Kind: storage.NewsDeviceList, User: user, Value: []matrix.DeviceID{device}})
	it.Insert(deviceChangesTable, user, device, at)
}

// Login opens a session for a user who proved to be one.
type Login struct {
	User    matrix.UserID
	Session Session
	// What was proved, checked again in the commit, so that a password or a login token that has just been
	// replaced or used opens nothing: one of the two.
	PasswordHash string
	LoginToken   *TokenHash
	Refusal      error // what the login fails with if that no longer holds
}

// Rows implements storage.Write.
func (w Login) Rows(it *storage.Item) {
	if w.LoginToken != nil {
		it.Require(w.Refusal, `
			DELETE FROM login_tokens
			WHERE token_hash = $1 AND user_id = $2 AND expires_ms > $3`, w.LoginToken[:], w.User, w.Session.AtMS)
		it.Require(w.Refusal, `
			SELECT 1 FROM users
			WHERE user_id = $1 AND deactivated_ms = 0`, w.User)
	} else {
		it.Require(w.Refusal, `
			SELECT 1 FROM users
			WHERE user_id = $1 AND deactivated_ms = 0 AND password_hash = $2`, w.User, w.PasswordHash)
	}
	w.Session.rows(it, w.User)
}

// RenameDevice gives a device another display name.
type RenameDevice struct {
	User        matrix.UserID
	Device      matrix.DeviceID
	DisplayName string
}

// Rows implements storage.Write.
func (w RenameDevice) Rows(it *storage.Item) {
	it.Require(matrix.Errorf(matrix.NotFound, "%s has no device %s", w.User, w.Device), `
		UPDATE devices SET display_name = $3
		WHERE user_id = $1 AND device_id = $2`, w.User, w.Device, w.DisplayName)
	deviceChanged(it, w.User, w.Device)
}

// RemoveDevices removes devices of a user, with their access tokens and the messages that wait for them. Those that
// are not there are no error.
type RemoveDevices struct {
	User    matrix.UserID
	Devices []matrix.DeviceID
}

// Rows implements storage.Write.
func (w RemoveDevices) Rows(it *storage.Item) {
	set := storage.Set(w.Devices...)
	at := it.News(storage.News{Kind: storage.NewsDeviceList, User: w.User, Value: w.Devices})
	it.Exec(`
		INSERT INTO device_changes (user_id, device_id, position)
		SELECT user_id, device_id, CAST($3 AS BIGINT) FROM devices
		WHERE user_id = $1 AND device_id IN (SELECT key FROM json_each($2))
		ON CONFLICT (user_id, device_id) DO UPDATE SET position = excluded.position`, w.User, set, at)
	it.Exec(`
		DELETE FROM access_tokens
		WHERE user_id = $1 AND device_id IN (SELECT key FROM json_each($2))`, w.User, set)
	it.Exec(`
		DELETE FROM to_device
		WHERE user_id = $1 AND device_id IN (SELECT key FROM json_each($2))`, w.User, set)
	it.Exec(`
		DELETE FROM devices
		WHERE user_id = $1 AND device_id IN (SELECT key FROM json_each($2))`, w.User, set)
}

// RemoveAllDevices removes the devices of a user, with their access tokens and the messages that wait for them.
type RemoveAllDevices struct {
	User matrix.UserID
	Keep matrix.DeviceID // this one stays; empty: none
}

// Rows implements storage.Write.
func (w RemoveAllDevices) Rows(it *storage.Item) {
	at := it.News(storage.News{Kind: storage.NewsDeviceList, User: w.User})
	it.Exec(`
		INSERT INTO device_changes (user_id, device_id, position)
		SELECT user_id, device_id, CAST($3 AS BIGINT) FROM devices
		WHERE user_id = $1 AND device_id <> $2
		ON CONFLICT (user_id, device_id) DO UPDATE SET position = excluded.position`, w.User, w.Keep, at)
	it.Exec(`DELETE FROM access_tokens WHERE user_id = $1 AND device_id <> $2`, w.User, w.Keep)
	it.Exec(`DELETE FROM to_device WHERE user_id = $1 AND device_id <> $2`, w.User, w.Keep)
	it.Exec(`DELETE FROM devices WHERE user_id = $1 AND device_id <> $2`, w.User, w.Keep)
}

// Sighting is when and from where a device was last used.
type Sighting struct {
	User   matrix.UserID
	Device matrix.DeviceID
	AtMS   int64
	IP     string
}

// Seen records when devices were last used.
type Seen []Sighting

// Rows implements storage.Write.
func (w Seen) Rows(it *storage.Item) {
	for _, s := range w {
		it.Exec(`
			UPDATE devices SET seen_ms = $3, seen_ip = $4
			WHERE user_id = $1 AND device_id = $2 AND seen_ms < $3`, s.User, s.Device, s.AtMS, s.IP)
	}
}
