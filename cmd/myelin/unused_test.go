package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/config"
)

func TestPageSaysWhatHasNoEffect(t *testing.T) {
	for _, key := range unread {
		if doc := config.SectionDoc(key); !strings.HasSuffix(doc, "No effect yet.") {
			t.Errorf("%s: the comment %q does not say that it has no effect yet", key, doc)
		}
	}
}

func TestWithoutEffect(t *testing.T) {
	c := config.Default()
	c.Media.Path = "data/media" // as derived
	c.Guests = true
	c.Federation.Enabled = false
	if got := withoutEffect(c); len(got) > 0 {
		t.Errorf("got %v, want none", got)
	}
	c.Media.URLPreviews = true
	c.SMTP.Password = "p"
	c.AppServices = []string{"bridge.yaml"}
	if got, want := withoutEffect(c), []string{"media.url_previews", "app_services", "smtp.password"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
