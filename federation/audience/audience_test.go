package audience

import "testing"

func TestAudienceForgets(t *testing.T) {
	a := NewRooms(nil, nil)
	for num := range int64(maxResidents + 10) {
		a.residents(num)
	}
	if len(a.known) != maxResidents {
		t.Errorf("%d rooms are remembered, want %d", len(a.known), maxResidents)
	}
}
