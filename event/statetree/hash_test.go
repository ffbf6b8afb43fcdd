package statetree

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/myelin-chat/myelin/event"
)

var testHasher = NewHasher([16]byte{1, 2, 3})

// Key 00..0f over the bytes 00, 01, 02, ...; as OpenSSL computes them.
var sipVectors = []struct {
	length int
	want   string
}{
	{8, "3b62a9ba6258f5610f83e264f31497b4"},
	{9, "264499060ad9baabc47f8b02bb6d71ed"},
	{15, "5493e99933b0a8117e08ec0f97cfc3d9"},
	{16, "6ee2a4ca67b054bbfd3315bf85230577"},
	{23, "c9d184ddd5a9f5e0cf8ce29a9abf691c"},
	{40, "df6a301e95c95dad97ae0cc8c6913bd8"},
}

func TestSipHash(t *testing.T) {
	message := make([]byte, 40)
	for i := range message {
		message[i] = byte(i)
	}
	key := newSipKey([16]byte(message[:16]))
	text := func(lo, hi uint64) string {
		b := binary.LittleEndian.AppendUint64(nil, lo)
		return hex.EncodeToString(binary.LittleEndian.AppendUint64(b, hi))
	}
	for _, v := range sipVectors {
		got := text(key.sum(binary.LittleEndian.Uint64(message), message[8:v.length]))
		if got != v.want {
			t.Errorf("sum of %d bytes: got %s, want %s", v.length, got, v.want)
		}
	}
	first, second := binary.LittleEndian.Uint64(message), binary.LittleEndian.Uint64(message[8:])
	if got := text(key.pair(first, second)); got != sipVectors[3].want {
		t.Errorf("pair: got %s, want %s", got, sipVectors[3].want)
	}
}

func TestKeys(t *testing.T) {
	other := NewHasher([16]byte{1, 2, 4})
	seen := map[Key]event.Key{}
	for i := range 1000 {
		for _, k := range []event.Key{
			{Type: "m.room.member", StateKey: fmt.Sprintf("@u%d:example.org", i)},
			{Type: fmt.Sprintf("t%d", i)},
			{Type: "t", StateKey: fmt.Sprint(i)},
		} {
			key := testHasher.Key(k)
			if old, ok := seen[key]; ok {
				t.Fatalf("%v and %v have the same key", old, k)
			}
			seen[key] = k
			if key != testHasher.Key(k) {
				t.Errorf("the key of %v changes", k)
			}
			if key<<4 == other.Key(k)<<4 {
				t.Errorf("the key of %v does not depend on the secret", k)
			}
			if got, want := Members.Has(key), k.Type == "m.room.member"; got != want {
				t.Errorf("%v among the members: got %v, want %v", k, got, want)
			}
			if !testHasher.Type(k.Type).Has(key) {
				t.Errorf("%v is not in the class of its type", k)
			}
		}
	}
}

func TestTypesSpreadOverClasses(t *testing.T) {
	var seen Classes
	for i := range 1000 {
		seen |= testHasher.Type(fmt.Sprintf("org.example.type%d", i))
	}
	if seen != NonMembers {
		t.Errorf("classes of 1000 types: got %016b, want %016b", seen, NonMembers)
	}
}

func TestHashOfSetIsASum(t *testing.T) {
	a, b := []entry{{1, 10}, {2, 20}}, []entry{{3, 30}}
	all := append(append([]entry{}, a...), b...)
	sum := testHasher.hashOf(a).plus(testHasher.hashOf(b))
	if got := testHasher.hashOf(all); got != sum {
		t.Errorf("hash of the union: got %v, want %v", got, sum)
	}
	if got := sum.minus(testHasher.hashOf(b)); got != testHasher.hashOf(a) {
		t.Errorf("taken away again: got %v, want %v", got, testHasher.hashOf(a))
	}
	if got := sum.minus(sum); got != (Hash{}) || got.Bytes() != [16]byte{} {
		t.Errorf("hash of nothing: got %v, want zero", got)
	}
	if testHasher.hashOf([]entry{{1, 20}, {2, 10}}) == testHasher.hashOf(a) {
		t.Error("exchanging two values does not change the hash")
	}
}

func TestHashCarries(t *testing.T) {
	low, one := Hash{0, ^uint64(0)}, Hash{0, 1}
	if got, want := low.plus(one), (Hash{1, 0}); got != want {
		t.Errorf("plus: got %v, want %v", got, want)
	}
	if got := low.plus(one).minus(one); got != low {
		t.Errorf("minus: got %v, want %v", got, low)
	}
	if got, want := one.Bytes(), [16]byte{15: 1}; got != want {
		t.Errorf("bytes: got %x, want %x", got, want)
	}
}

func BenchmarkKey(b *testing.B) {
	k := event.Key{Type: "m.room.member", StateKey: "@somebody:matrix.example.org"}
	for b.Loop() {
		testHasher.Key(k)
	}
}
