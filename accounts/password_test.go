package accounts

import (
	"context"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/myelin-chat/myelin/matrix"
)

func TestHasher(t *testing.T) {
	h := newHasher(4)
	ctx := t.Context()
	long := strings.Repeat("x", 80)
	for _, c := range []struct{ name, set, given string }{
		{"short", "a", "b"},
		{"at the limit of bcrypt", long[:72], long[:71] + "y"},
		{"beyond the limit of bcrypt", long, long[:79] + "y"},
		{"beyond it by one", long[:73], long[:72]},
		{"NUL", "a\x00b", "a\x00c"},
		{"longest", strings.Repeat("é", 256), strings.Repeat("é", 255)},
	} {
		hash, err := h.hash(ctx, c.set)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if ok, err := h.matches(ctx, hash, c.set); !ok || err != nil {
			t.Errorf("%s: the password itself: got %v, %v, want true", c.name, ok, err)
		}
		if ok, err := h.matches(ctx, hash, c.given); ok || err != nil {
			t.Errorf("%s: another password: got %v, %v, want false", c.name, ok, err)
		}
	}
}

func TestHasherTakesHashesOfOtherServers(t *testing.T) {
	h := newHasher(12)
	made, err := bcrypt.GenerateFromPassword([]byte("sesame"), 5)
	if err != nil {
		t.Fatal(err)
	}
	hash := strings.Replace(string(made), "$2a$", "$2b$", 1) // as Python's bcrypt writes it
	if ok, err := h.matches(t.Context(), hash, "sesame"); !ok || err != nil {
		t.Errorf("got %v, %v, want true", ok, err)
	}
	if _, err := h.matches(t.Context(), "not a hash", "sesame"); err == nil {
		t.Error("a broken hash in the database is not reported")
	}
}

func TestNobodysHashCostsAsMuchAsAnother(t *testing.T) {
	for _, cost := range []int{4, 12} {
		if got, err := bcrypt.Cost(newHasher(cost).nobody); got != cost || err != nil {
			t.Errorf("cost: got %d, %v, want %d", got, err, cost)
		}
	}
	h := newHasher(4)
	for _, password := range []string{"", "x", strings.Repeat("x", 100)} {
		if ok, err := h.matches(t.Context(), "", password); ok || err != nil {
			t.Errorf("%q against nobody: got %v, %v, want false", password, ok, err)
		}
	}
	// It goes through all the work: the comparison ends in a mismatch, not in a hash that cannot be read.
	if err := bcrypt.CompareHashAndPassword(h.nobody, []byte("x")); err != bcrypt.ErrMismatchedHashAndPassword {
		t.Errorf("got %v, want a mismatch", err)
	}
}

func TestHasherLimits(t *testing.T) {
	h := newHasher(4)
	h.waiting.Store(maxWaitingHashes)
	_, err := h.hash(t.Context(), "x")
	wantCode(t, "too many", err, matrix.LimitExceeded)
	if got := h.waiting.Load(); got != maxWaitingHashes {
		t.Errorf("waiting afterwards: got %d, want %d", got, maxWaitingHashes)
	}
	h.waiting.Store(0)
	for range cap(h.slots) {
		h.slots <- struct{}{}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.matches(gone, "", "x"); err != context.Canceled {
		t.Errorf("who has gone: got %v, want %v", err, context.Canceled)
	}
	if got := h.waiting.Load(); got != 0 {
		t.Errorf("waiting afterwards: got %d, want 0", got)
	}
}

func TestCheckNewPassword(t *testing.T) {
	for _, c := range []struct {
		password string
		want     matrix.ErrorCode
	}{
		{"", matrix.MissingParam},
		{"x", ""},
		{strings.Repeat("x", 512), ""},
		{strings.Repeat("x", 513), matrix.InvalidParam},
	} {
		wantCode(t, c.password, checkNewPassword(c.password), c.want)
	}
}

func BenchmarkHash(b *testing.B) {
	h := newHasher(12)
	for b.Loop() {
		if _, err := h.hash(b.Context(), goodPassword); err != nil {
			b.Fatal(err)
		}
	}
}
