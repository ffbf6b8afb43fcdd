package clientapi

import (
	"testing"

	"github.com/myelin-chat/myelin/event/pushrules"
)

func TestPushRules(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	alice.get("/pushrules/").is(string(pushrules.DefaultContent(alice.user)))
	alice.get("/pushrules/global/").ok().has(".m.rule.message", "underride", "3", "rule_id")
	alice.get("/pushrules/global/override/.m.rule.suppress_notices").is(`{
		"rule_id": ".m.rule.suppress_notices", "default": true, "enabled": true, "actions": [],
		"conditions": [{"kind": "event_match", "key": "content.msgtype", "pattern": "m.notice"}]}`)
	alice.get("/pushrules/global/override/.m.rule.master/enabled").is(`{"enabled":false}`)
	alice.get("/pushrules/global/underride/.m.rule.message/enabled").is(`{"enabled":true}`)
	alice.get("/pushrules/global/underride/.m.rule.message/actions").is(`{"actions":["notify"]}`)
	for _, path := range []string{
		"postcontent/x", "override/x", "override/.m.rule.message", "content/.m.rule.message", "underride/.m.rule.message%00",
		"override/x/enabled", "postcontent/x/actions",
	} {
		alice.get("/pushrules/global/"+path).fails(404, "M_NOT_FOUND")
	}
	// Rules cannot be changed yet, and nothing pretends that they were.
	alice.put("/pushrules/global/override/.m.rule.master/enabled", object{"enabled": true}).fails(405, "M_UNRECOGNIZED")
}
