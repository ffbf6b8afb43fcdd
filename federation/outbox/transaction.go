package outbox

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage"
)

// A Transaction is what is sent to a server at a time.
// https://spec.matrix.org/v1.19/server-server-api/#transactions
type Transaction struct {
	ID   string // the same for the same content, and for no other
	Body []byte // canonical JSON
	PDUs []matrix.EventID
	EDUs int
}

// An Answer is what a server says to a transaction that it took.
type Answer struct {
	Errors map[matrix.EventID]string // of the PDUs that it did not like, in its own words
}

// A letter is a PDU or an EDU, with where it stands in the log.
type letter struct {
	at   storage.Position
	id   matrix.EventID // of a PDU
	json []byte
}

// contents is what a transaction holds.
type contents struct {
	pdus, edus []letter
	ts         int64  // ms
	number     uint64 // of a transaction that is not to be taken for an earlier one with the same content
	bytes      int
}

func (c *contents) addPDU(l letter, ts int64) {
	c.pdus = append(c.pdus, l)
	c.count(l, ts)
}

func (c *contents) addEDU(l letter, ts int64) {
	c.edus = append(c.edus, l)
	c.count(l, ts)
}

func (c *contents) count(l letter, ts int64) {
	c.bytes += len(l.json)
	c.ts = max(c.ts, ts)
}

// maxTimestamp is the greatest integer that JSON has everywhere.
const maxTimestamp = 1<<53 - 1

// transaction writes the contents. Its time is that of the newest thing in it rather than that of sending, so that it
// is the same when it is repeated.
func (c *contents) transaction(from matrix.ServerName, incarnation string) Transaction {
	body := make([]byte, 0, c.bytes+len(c.pdus)+len(c.edus)+128+len(from))
	body = appendLetters(append(body, `{"edus":[`...), c.edus)
	body = canonical.AppendString(append(body, `],"origin":`...), string(from))
	body = append(body, `,"origin_server_ts":`...)
	body = strconv.AppendInt(body, min(c.ts, maxTimestamp), 10)
	body = appendLetters(append(body, `,"pdus":[`...), c.pdus)
	body = append(body, `]}`...)
	t := Transaction{ID: c.id(incarnation), Body: body, EDUs: len(c.edus)}
	for _, l := range c.pdus {
		t.PDUs = append(t.PDUs, l.id)
	}
	return t
}

func appendLetters(b []byte, letters []letter) []byte {
	for i, l := range letters {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, l.json...)
	}
	return b
}

// id is made of the positions of the PDUs and the texts of the EDUs. A restored database gives positions out again, but
// with another incarnation.
func (c *contents) id(incarnation string) string {
	b := append([]byte(incarnation), 0)
	b = binary.BigEndian.AppendUint64(b, uint64(c.ts))
	b = binary.BigEndian.AppendUint64(b, c.number)
	var last storage.Position
	for _, l := range c.pdus {
		b = binary.BigEndian.AppendUint64(b, uint64(l.at))
		last = max(last, l.at)
	}
	for _, l := range c.edus {
		sum := sha256.Sum256(l.json)
		b = append(b, sum[:]...)
		last = max(last, l.at)
	}
	sum := sha256.Sum256(b)
	return strconv.FormatInt(int64(last), 36) + "-" + base64.RawURLEncoding.EncodeToString(sum[:15])
}
