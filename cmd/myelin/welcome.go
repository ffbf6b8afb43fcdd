package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/myelin-chat/myelin/config"
)

// welcome says where the server is and, as long as it has no account, what to do next.
func welcome(c config.Config, hasAccounts bool) string {
	text := fmt.Sprintf("Myelin serves %s at %s and keeps its data in %s.\n", c.ServerName, c.PublicURL, c.DataDir)
	if hasAccounts {
		return text
	}
	// The command is printed so that it can be pasted: with the data directory if that is not the default.
	command := invocation(os.Args[0]) + " admin create-user --admin alice"
	if c.DataDir != config.Default().DataDir {
		command += " --data-dir " + shellQuote(c.DataDir)
	}
	return text + `
What to do next:
  1. Make the first account, an administrator's. In another terminal, in this folder:

       ` + command + `

     It prints the password that it made up.
  2. Open a Matrix client, name ` + c.PublicURL + ` as the homeserver, and sign in as alice.

docs/config.md lists the settings. Ctrl-C stops the server.
`
}

// invocation is how this program was called: `go run` builds it into a folder that is gone afterwards.
func invocation(arg0 string) string {
	if strings.Contains(arg0, "go-build") {
		return "go run ./cmd/myelin"
	}
	return shellQuote(arg0)
}

// shellQuote quotes text for a shell where that is needed.
func shellQuote(text string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !safe(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
