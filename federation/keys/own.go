package keys

import (
	"time"

	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
)

const (
	// publishedValidity is how long others may use our keys without asking again. It is also how long a stolen key can
	// be used after it was replaced.
	publishedValidity = 24 * time.Hour
	// publishedLife is how long the same signed document is answered.
	publishedLife = time.Hour
)

// published is the document of this server, and when to make a new one.
type published struct {
	json  []byte
	until time.Time
}

// Published returns what this server publishes of its keys, for GET /_matrix/key/v2/server and its old form with a key
// ID, which means the same.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2server
func (r *Ring) Published() ([]byte, error) {
	r.publishing.Lock()
	defer r.publishing.Unlock()
	now := r.settings.Now()
	if now.Before(r.published.until) {
		return r.published.json, nil
	}
	json, err := r.publish(now)
	if err != nil {
		return nil, err
	}
	r.published = published{json, now.Add(publishedLife)}
	return json, nil
}

func (r *Ring) publish(now time.Time) ([]byte, error) {
	current, old := map[signing.KeyID]any{}, map[signing.KeyID]any{}
	for id, k := range r.own.keys {
		text := signing.EncodeBase64(k.Public)
		if k.Retired {
			old[id] = map[string]any{"key": text, "expired_ts": k.ValidUntilMS}
		} else {
			current[id] = map[string]any{"key": text}
		}
	}
	obj, err := canonical.Marshal(map[string]any{
		"server_name":     r.settings.ServerName,
		"valid_until_ts":  now.Add(publishedValidity).UnixMilli(),
		"verify_keys":     current,
		"old_verify_keys": old,
	})
	if err != nil {
		return nil, err
	}
	return signing.SignJSON(obj, r.settings.ServerName, r.settings.Key)
}
