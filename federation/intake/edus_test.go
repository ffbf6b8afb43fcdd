package intake

import "testing"

func TestReadReceipt(t *testing.T) {
	for raw, want := range map[string]bool{
		`{"event_ids":["$a"],"data":{"ts":1,"thread_id":"main"}}`: true,
		`{"event_ids":["$a","$b"]}`:                               true,
		`{"event_ids":[]}`:                                        false,
		`{"event_ids":["a"]}`:                                     false,
		`{"event_ids":"$a"}`:                                      false,
		`{"event_ids":["$a"],"data":{"ts":"x"}}`:                  false,
		`[]`:                                                      false, `null`: false, ``: false,
	} {
		if _, got := readReceipt("@bob:them.example", []byte(raw)); got != want {
			t.Errorf("%s: got %v, want %v", raw, got, want)
		}
	}
}
