package main

import (
	"slices"
	"strings"

	"github.com/myelin-chat/myelin/config"
)

// unread are sections and settings that no part of the server reads yet: those of parts that are still to come.
var unread = []string{"media", "app_services", "smtp"}

// withoutEffect lists the settings of c that were changed in vain.
func withoutEffect(c config.Config) []string {
	defaults := map[string]string{}
	standard := config.Default()
	for f := range standard.Fields() {
		defaults[f.Key] = f.String()
	}
	var vain []string
	for f := range c.Fields() {
		section, _, _ := strings.Cut(f.Key, ".")
		derived := f.Key == "media.path"
		if slices.Contains(unread, section) && !derived && f.String() != defaults[f.Key] {
			vain = append(vain, f.Key)
		}
	}
	return vain
}
