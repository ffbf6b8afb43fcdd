package pushrules

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
)

// https://spec.matrix.org/v1.19/client-server-api/#predefined-rules
func TestDefaultContentIsThatOfTheSpecification(t *testing.T) {
	for _, user := range []matrix.UserID{"@alice:example.org", `@"odd\<&>":example.org`} {
		name, err := json.Marshal(user)
		if err != nil {
			t.Fatal(err)
		}
		vector, err := os.ReadFile("testdata/default-push-rules.json")
		if err != nil {
			t.Fatal(err)
		}
		var want, got map[string]any
		text := strings.ReplaceAll(string(vector), `"[the user's Matrix ID]"`, string(name))
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		delete(want, "source")
		if err := json.Unmarshal(DefaultContent(user), &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("rules of %s:\n got %v\nwant %v", user, got, want)
		}
	}
}

func TestDefaultSharesNothingBetweenUsers(t *testing.T) {
	a := Default("@a:example.org")
	*a.Override[1].Conditions[0].Pattern = "changed"
	if got := *Default("@b:example.org").Override[1].Conditions[0].Pattern; got != "m.notice" {
		t.Errorf("pattern of another user's rule: got %q, want m.notice", got)
	}
}

func BenchmarkDefaultContent(b *testing.B) {
	for b.Loop() {
		DefaultContent("@alice:example.org")
	}
}
