package statetree

import (
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func leafOf(id NodeID, entries ...entry) *node {
	return &node{id: id, count: len(entries), hash: testHasher.hashOf(entries), entries: entries}
}

func innerOf(id NodeID, count int, children ...NodeID) *node {
	n := &node{id: id, count: count, hash: Hash{7, 8}, children: new([fanOut]NodeID)}
	for i, c := range children {
		n.children[i*fanOut/len(children)] = c
	}
	return n
}

func fullLeaf() *node {
	var entries []entry
	for i := range leafMax {
		entries = append(entries, entry{Key(i) << 59, 1<<63 - 1})
	}
	return leafOf(1<<63-1, entries...)
}

var nodes = map[string]*node{
	"one entry":        leafOf(1, entry{5, 6}),
	"no common prefix": leafOf(2, entry{0, 1}, entry{1<<64 - 1, 1<<63 - 1}),
	"common prefix":    leafOf(300, entry{0x1234567890abcd00, 9}, entry{0x1234567890abcd01, 8}),
	"full leaf":        fullLeaf(),
	"one child":        innerOf(4, 33, 1),
	"all children":     innerOf(5, 1<<40, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 1<<62, 1<<63-1),
}

func TestNodesSurviveEncoding(t *testing.T) {
	for name, want := range nodes {
		t.Run(name, func(t *testing.T) {
			got, err := testHasher.decode(want.id, testHasher.encode(want))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestCorruptNodes(t *testing.T) {
	refused := func(t *testing.T, what string, id NodeID, data []byte) {
		t.Helper()
		if _, err := testHasher.decode(id, data); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", what, err)
		}
	}
	for name, n := range nodes {
		t.Run(name, func(t *testing.T) {
			data := testHasher.encode(n)
			for i := range data {
				refused(t, "shortened", n.id, data[:i])
				for bit := range 8 {
					data[i] ^= 1 << bit
					refused(t, "a flipped bit", n.id, data)
					data[i] ^= 1 << bit
				}
			}
			refused(t, "under another number", n.id-1, data)
			refused(t, "longer", n.id, append(data, 0))
		})
	}
	other := NewHasher([16]byte{9})
	if _, err := other.decode(4, testHasher.encode(nodes["one child"])); !errors.Is(err, ErrCorrupt) {
		t.Errorf("with another secret: got %v, want ErrCorrupt", err)
	}
}

// Bytes with a right checksum can be wrong only by a mistake of ours, or of a
// later version.
func TestWrongBodies(t *testing.T) {
	hash16 := strings.Repeat("h", 16)
	for _, c := range []struct{ name, body, want string }{
		{"nothing", "", "truncated"},
		{"no kind", "\x04\x21", "unknown kind of node"},
		{"hole 0", "\x03\x01" + hash16 + "\x00\x01\x01\x00", "hole without a number"},
		{"no hole", "\x03\x01" + hash16 + "\x00\x01\x01", "truncated"},
		{"empty leaf", "\x01\x00\x00", "leaf of wrong size"},
		{"leaf of 33", "\x01\x21\x00", "leaf of wrong size"},
		{"prefix of 9", "\x01\x01\x09123456789\x01", "prefix too long"},
		{"value 0", "\x01\x01\x0812345678\x00", "entry without a value"},
		{"value too large", "\x01\x01\x0812345678\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "truncated"},
		{"same key twice", "\x01\x02\x0812345678\x01\x01", "keys do not ascend"},
		{"descending keys", "\x01\x02\x071234567b\x01a\x01", "keys do not ascend"},
		{"leaf cut", "\x01\x02\x071234567a\x01b", "truncated"},
		{"leaf longer", "\x01\x01\x0812345678\x01\x01", "trailing bytes"},
		{"inner of 32", "\x02\x20" + hash16 + "\x00\x01\x01", "inner node too small"},
		{"no children", "\x02\x21" + hash16 + "\x00\x00", "inner node without children"},
		{"child 0", "\x02\x21" + hash16 + "\x00\x01\x00", "child without a number"},
		{"inner longer", "\x02\x21" + hash16 + "\x00\x01\x01\x01", "trailing bytes"},
	} {
		if _, got := testHasher.decodeBody([]byte(c.body)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// FuzzDecode gives bytes the right checksum, so that what lies behind it is
// reached as well.
func FuzzDecode(f *testing.F) {
	for _, n := range nodes {
		data := testHasher.encode(n)
		f.Add(data[:len(data)-checkSize])
	}
	f.Add([]byte("\x03\x01" + strings.Repeat("h", 16) + "\x00\x01\x01\x07"))
	f.Fuzz(func(t *testing.T, body []byte) {
		testHasher.decode(77, body)
		sealed := binary.BigEndian.AppendUint32(append([]byte{}, body...), testHasher.check(77, body))
		n, err := testHasher.decode(77, sealed)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("got %v, want ErrCorrupt", err)
			}
			return
		}
		again, err := testHasher.decode(77, testHasher.encode(n))
		if err != nil || !reflect.DeepEqual(n, again) {
			t.Fatalf("encoded again: got %+v, %v, want %+v", again, err, n)
		}
	})
}
