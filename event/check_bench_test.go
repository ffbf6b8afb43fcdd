package event

import (
	"crypto/ed25519"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
)

// BenchmarkCheckIncoming does all that is done to an event of another server before the rules of its room are asked:
// parse, limits, content hash, redaction, ID, one signature. It reports how many times as long that takes as its calls
// of ed25519 and SHA-256 alone, which are timed by turns with it; that is to stay below 1.3.
func BenchmarkCheckIncoming(b *testing.B) {
	e, key := benchEvent(b), keyOf(b, testSeed)
	raw := slices.Clone(e.JSON)
	signature, err := signing.DecodeBase64(signatureOf(e))
	if err != nil {
		b.Fatal(err)
	}
	hashed, signed := canonical.AppendWithout(nil, e.JSON, "hashes", "signatures", "unsigned"), e.essence()
	const batch = 100
	var all, calls []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		started := time.Now()
		for range batch {
			got, err := Parse(e.Version, raw)
			if err == nil {
				err = VerifySignature(got, "example.org", key.ID(), key.Public())
			}
			if err != nil || got.ID != e.ID {
				b.Fatal(got, err)
			}
		}
		between := time.Now()
		for range batch {
			content, reference := sha256.Sum256(hashed), sha256.Sum256(signed)
			if !ed25519.Verify(key.Public(), signed, signature) || content == reference {
				b.Fatal("the signature is wrong")
			}
		}
		all, calls = append(all, between.Sub(started)), append(calls, time.Since(between))
	}
	slices.Sort(all)
	slices.Sort(calls)
	whole, bare := all[len(all)/2], calls[len(calls)/2]
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(whole.Nanoseconds())/batch/1000, "µs/event")
	b.ReportMetric(float64(bare.Nanoseconds())/batch/1000, "µs/crypto")
	b.ReportMetric(float64(whole)/float64(bare), "ratio")
}

func signatureOf(e *Event) string {
	for _, raw := range canonical.Fields(canonical.Get(e.JSON, "signatures", "example.org")) {
		if s, ok := canonical.String(raw); ok {
			return s
		}
	}
	return strings.Repeat("A", 86)
}
