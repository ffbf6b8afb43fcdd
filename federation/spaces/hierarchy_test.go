package spaces

import "testing"

func TestAllowedRooms(t *testing.T) {
	for content, want := range map[string]int{
		`{}`: 0, `{"allow":{}}`: 0, `{"allow":[]}`: 0, `{"allow":[{}]}`: 0, `{"allow":[{"type":"m.room_membership"}]}`: 0,
		`{"allow":[{"room_id":"!a:b","type":"m.room_membership"},{"room_id":"a","type":"m.room_membership"}]}`: 1,
	} {
		if got := allowedRooms([]byte(content)); len(got) != want {
			t.Errorf("%s: got %v, want %d", content, got, want)
		}
	}
}
