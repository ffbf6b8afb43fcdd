package clientapi

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// pushRules shows all of the caller's push rules.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrules
func (a *API) pushRules(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.Raw, error) {
	content, err := a.accounts.AccountData(ctx, c.User, "", accounts.PushRules)
	if err != nil {
		return nil, err
	}
	return (*httpapi.Raw)(&content), nil
}

// globalPushRules shows the one set of rules there is.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrulesglobal
func (a *API) globalPushRules(ctx context.Context, c *httpapi.Call, in *httpapi.None) (*httpapi.Raw, error) {
	content, err := a.pushRules(ctx, c, in)
	if err != nil {
		return nil, err
	}
	global := httpapi.Raw(canonical.Get(*content, "global"))
	return &global, nil
}

// pushRule shows one rule.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrulesglobalkindruleid
func (a *API) pushRule(ctx context.Context, c *httpapi.Call, in *httpapi.None) (*httpapi.Raw, error) {
	global, err := a.globalPushRules(ctx, c, in)
	if err != nil {
		return nil, err
	}
	var rules []json.RawMessage
	if kind := canonical.Get(*global, c.Path("kind")); kind != nil {
		if err := json.Unmarshal(kind, &rules); err != nil {
			return nil, fmt.Errorf("read the push rules of %s: %w", c.User, err)
		}
	}
	for _, rule := range rules {
		if id, _ := canonical.String(canonical.Get(rule, "rule_id")); id == c.Path("ruleID") {
			return (*httpapi.Raw)(&rule), nil
		}
	}
	return nil, matrix.Errorf(matrix.NotFound, "there is no such push rule")
}

type ruleEnabledResponse struct {
	Enabled json.RawMessage `json:"enabled"`
}

// pushRuleEnabled tells whether a rule is in force.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrulesglobalkindruleidenabled
func (a *API) pushRuleEnabled(ctx context.Context, c *httpapi.Call, in *httpapi.None) (*ruleEnabledResponse, error) {
	rule, err := a.pushRule(ctx, c, in)
	if err != nil {
		return nil, err
	}
	return &ruleEnabledResponse{canonical.Get(*rule, "enabled")}, nil
}

type ruleActionsResponse struct {
	Actions json.RawMessage `json:"actions"`
}

// pushRuleActions tells what a rule does.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrulesglobalkindruleidactions
func (a *API) pushRuleActions(ctx context.Context, c *httpapi.Call, in *httpapi.None) (*ruleActionsResponse, error) {
	rule, err := a.pushRule(ctx, c, in)
	if err != nil {
		return nil, err
	}
	return &ruleActionsResponse{canonical.Get(*rule, "actions")}, nil
}
