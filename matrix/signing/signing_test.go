package signing_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
)

type vectors struct {
	Seed       string            `json:"signing_key_seed_base64"`
	Public     string            `json:"public_key_base64"`
	ServerName matrix.ServerName `json:"server_name"`
	KeyID      signing.KeyID     `json:"key_id"`
	Vectors    []struct {
		Name          string
		Input, Signed json.RawMessage
	}
	Requests []struct {
		SignedBytes string `json:"signed_bytes"`
		Signature   string
	} `json:"x_matrix_requests"`
}

func readVectors(t testing.TB) (v vectors, key signing.Key) {
	t.Helper()
	readJSON(t, "testdata/json-signing.json", &v)
	seed, err := signing.DecodeBase64(v.Seed)
	if err != nil {
		t.Fatal(err)
	}
	if key, err = signing.NewKey(v.KeyID, seed); err != nil {
		t.Fatal(err)
	}
	return v, key
}

func readJSON(t testing.TB, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

func mustCanonical(t testing.TB, text []byte) []byte {
	t.Helper()
	c, err := canonical.JSON(text, canonical.Strict)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSignVectors(t *testing.T) {
	v, key := readVectors(t)
	if got := signing.EncodeBase64(key.Public()); got != v.Public {
		t.Errorf("got public key %s, want %s", got, v.Public)
	}
	if len(v.Vectors) == 0 || len(v.Requests) == 0 {
		t.Fatal("no vectors read")
	}
	for _, c := range v.Vectors {
		got, err := signing.SignJSON(c.Input, v.ServerName, key)
		if want := mustCanonical(t, c.Signed); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %s, %v, want %s", c.Name, got, err, want)
		}
		if err := signing.VerifyJSON(c.Signed, v.ServerName, v.KeyID, key.Public()); err != nil {
			t.Errorf("%s: verify: got %v, want no error", c.Name, err)
		}
	}
	for _, r := range v.Requests {
		if got := signing.EncodeBase64(key.Sign([]byte(r.SignedBytes))); got != r.Signature {
			t.Errorf("%s: got signature %s, want %s", r.SignedBytes, got, r.Signature)
		}
		if err := signing.Verify([]byte(r.SignedBytes), r.Signature, key.Public()); err != nil {
			t.Errorf("%s: verify: got %v, want no error", r.SignedBytes, err)
		}
	}
}

func TestSignKeepsOtherSignatures(t *testing.T) {
	_, key := readVectors(t)
	const obj = `{"signatures":{"domain":{"ed25519:0":"old","ed25519:1":"stale"},"a":{"k":"v"}},"unsigned":{"x":1},"b":1}`
	signed, err := signing.SignJSON([]byte(obj), "domain", key)
	if err != nil {
		t.Fatal(err)
	}
	if err := signing.VerifyJSON(signed, "domain", key.ID(), key.Public()); err != nil {
		t.Errorf("verify %s: got %v, want no error", signed, err)
	}
	for want, path := range map[string][]string{
		`"old"`: {"signatures", "domain", "ed25519:0"}, `"v"`: {"signatures", "a", "k"}, `{"x":1}`: {"unsigned"}, `1`: {"b"},
	} {
		if got := canonical.Get(signed, path...); string(got) != want {
			t.Errorf("%s: %q: got %s, want %s", signed, path, got, want)
		}
	}
	if !bytes.Equal(mustCanonical(t, signed), signed) {
		t.Errorf("got %s, which is not canonical", signed)
	}
}

func TestSignRefuses(t *testing.T) {
	_, key := readVectors(t)
	for text, want := range map[string]matrix.ErrorCode{
		`[]`: matrix.BadJSON, `1`: matrix.BadJSON, ``: matrix.NotJSON, `{"a":1.5}`: matrix.BadJSON, `{"a":1,"a":2}`: matrix.BadJSON,
		`{"signatures":1}`: matrix.BadJSON, `{"signatures":{"domain":[]}}`: matrix.BadJSON, `{"signatures":null}`: matrix.BadJSON,
	} {
		if got, err := signing.SignJSON([]byte(text), "domain", key); matrix.CodeOf(err) != want {
			t.Errorf("%s: got %s, %v, want %s", text, got, err, want)
		}
	}
}

func TestVerify(t *testing.T) {
	_, key := readVectors(t)
	signed, err := signing.SignJSON([]byte(`{"a":"b","c":1}`), "domain", key)
	if err != nil {
		t.Fatal(err)
	}
	good := string(signed)
	signature, _ := canonical.String(canonical.Get(signed, "signatures", "domain", "ed25519:1"))
	other := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	for _, c := range []struct {
		name, obj string
		server    matrix.ServerName
		id        signing.KeyID
		pub       ed25519.PublicKey
		want      matrix.ErrorCode
	}{
		{"good", good, "domain", "ed25519:1", key.Public(), ""},
		{"other order", `{"c":1, "a":"\u0062",` + good[strings.Index(good, `"signatures"`):], "domain", "ed25519:1", key.Public(), ""},
		{"unsigned added", good[:len(good)-1] + `,"unsigned":{"x":1.5}}`, "domain", "ed25519:1", key.Public(), ""},
		{"padded", strings.Replace(good, signature, signature+"==", 1), "domain", "ed25519:1", key.Public(), ""},
		{"changed", strings.Replace(good, `"b"`, `"B"`, 1), "domain", "ed25519:1", key.Public(), matrix.InvalidSignature},
		{"added", good[:len(good)-1] + `,"x":1}`, "domain", "ed25519:1", key.Public(), matrix.InvalidSignature},
		{"said twice", `{"a":"c",` + good[1:len(good)-1] + `,"a":"x"}`, "domain", "ed25519:1", key.Public(), matrix.InvalidSignature},
		{"other server", good, "other", "ed25519:1", key.Public(), matrix.InvalidSignature},
		{"other key ID", good, "domain", "ed25519:2", key.Public(), matrix.InvalidSignature},
		{"other key", good, "domain", "ed25519:1", other, matrix.InvalidSignature},
		{"no key", good, "domain", "ed25519:1", nil, matrix.InvalidSignature},
		{"short signature", strings.Replace(good, signature, signature[:40], 1), "domain", "ed25519:1", key.Public(), matrix.InvalidSignature},
		{"not base64", strings.Replace(good, signature, "!", 1), "domain", "ed25519:1", key.Public(), matrix.InvalidSignature},
		{"not a string", `{"signatures":{"domain":{"ed25519:1":1}}}`, "domain", "ed25519:1", key.Public(), matrix.InvalidSignature},
		{"signatures not an object", `{"signatures":[]}`, "domain", "ed25519:1", key.Public(), matrix.InvalidSignature},
		{"no signatures", `{}`, "domain", "ed25519:1", key.Public(), matrix.InvalidSignature},
		{"not an object", `[]`, "domain", "ed25519:1", key.Public(), matrix.BadJSON},
		{"not JSON", `{`, "domain", "ed25519:1", key.Public(), matrix.NotJSON},
	} {
		if err := signing.VerifyJSON([]byte(c.obj), c.server, c.id, c.pub); matrix.CodeOf(err) != c.want {
			t.Errorf("%s: got %v, want code %q", c.name, err, c.want)
		}
	}
}

func TestKeyIDs(t *testing.T) {
	const obj = `{"signatures":{"a":{"curve25519:x":"","ed25519:":"","ed25519:1":"","ed25519:a_b":""},"b":{"ed25519:2":""}}}`
	got := slices.Collect(signing.KeyIDs([]byte(obj), "a"))
	if want := []signing.KeyID{"ed25519:1", "ed25519:a_b"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := slices.Collect(signing.KeyIDs([]byte(obj), "c")); got != nil {
		t.Errorf("got %v for a server that did not sign, want none", got)
	}
}

func TestParseKeyID(t *testing.T) {
	for _, s := range []string{"ed25519:1", "ed25519:auto", "ed25519:a_RXGa"} {
		if id, err := signing.ParseKeyID(s); err != nil || string(id) != s {
			t.Errorf("%q: got %q, %v, want it unchanged", s, id, err)
		}
	}
	for _, s := range []string{"", "ed25519", "ed25519:", "rsa:1", "ed25519:a b", "ed25519:a-b", "ed25519:é", "ed25519:" + strings.Repeat("a", 248)} {
		if id, err := signing.ParseKeyID(s); matrix.CodeOf(err) != matrix.InvalidParam {
			t.Errorf("%q: got %q, %v, want %s", s, id, err, matrix.InvalidParam)
		}
	}
}

func TestBase64(t *testing.T) {
	var v struct {
		Vectors []struct{ Input, Base64 string }
		URLSafe []struct{ Standard, URLSafe string }
	}
	readJSON(t, "testdata/unpadded-base64.json", &v)
	for _, c := range v.Vectors {
		if got := signing.EncodeBase64([]byte(c.Input)); got != c.Base64 {
			t.Errorf("%q: got %q, want %q", c.Input, got, c.Base64)
		}
		padding := strings.Repeat("=", (4-len(c.Base64)%4)%4)
		for _, text := range []string{c.Base64, c.Base64 + padding} {
			if got, err := signing.DecodeBase64(text); err != nil || string(got) != c.Input {
				t.Errorf("%q: got %q, %v, want %q", text, got, err, c.Input)
			}
		}
	}
	for _, c := range v.URLSafe {
		standard, err := signing.DecodeBase64(c.Standard)
		urlSafe, err2 := signing.DecodeBase64(c.URLSafe)
		if err != nil || err2 != nil || !bytes.Equal(standard, urlSafe) {
			t.Errorf("%s, %s: got %x and %x, %v and %v, want the same", c.Standard, c.URLSafe, standard, urlSafe, err, err2)
		}
	}
	for _, text := range []string{"Z", "Zg=", "Zm9v=", "Zm9v====", "=", "Zm 9v", "Zm9v\n", "Zm\n9v", "+-8A", "Zg==Zg==", "é"} {
		if got, err := signing.DecodeBase64(text); matrix.CodeOf(err) != matrix.InvalidParam {
			t.Errorf("%q: got %q, %v, want %s", text, got, err, matrix.InvalidParam)
		}
	}
}

func FuzzBase64(f *testing.F) {
	f.Add("Zm9v", []byte("foo"))
	f.Fuzz(func(t *testing.T, text string, b []byte) {
		_, _ = signing.DecodeBase64(text)
		if got, err := signing.DecodeBase64(signing.EncodeBase64(b)); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%x came back as %x, %v", b, got, err)
		}
	})
}

func TestGenerate(t *testing.T) {
	random := bytes.Repeat([]byte{7, 200}, 38)
	a, err := signing.Generate(bytes.NewReader(random))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signing.ParseKeyID(string(a.ID())); err != nil || !strings.HasPrefix(a.ID().Version(), "a_") {
		t.Errorf("got key ID %s, %v, want ed25519:a_...", a.ID(), err)
	}
	if !ed25519.Verify(a.Public(), []byte("m"), a.Sign([]byte("m"))) {
		t.Error("a generated key does not verify its own signature")
	}
	b, err := signing.Generate(bytes.NewReader(random))
	if err != nil || !bytes.Equal(a.Public(), b.Public()) || a.ID() != b.ID() {
		t.Errorf("got %v and %v, %v, of the same random bytes", a, b, err)
	}
	if _, err := signing.Generate(bytes.NewReader(random[:37])); err == nil {
		t.Error("got a key of too few random bytes, want an error")
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	_, key := readVectors(t)
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(format, key); len(got) > len("signing.Key(ed25519:1)") {
			t.Errorf("%s: got %s, want no more than the ID", format, got)
		}
	}
}

const seedText = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"

func TestReadKeyFile(t *testing.T) {
	v, _ := readVectors(t)
	for name, text := range map[string]string{
		"as Synapse writes it": "ed25519 a_x " + seedText + "\n",
		"no line end":          "ed25519 a_x " + seedText,
		"much space":           "\n\n  ed25519 \t a_x   " + seedText + "  \r\n\n",
		"padded":               "ed25519 a_x " + seedText + "=\n",
		"several keys":         "ed25519 a_x " + seedText + "\ned25519 old AAAA\n",
	} {
		key, err := signing.ReadKeyFile(writeText(t, text))
		if err != nil || key.ID() != "ed25519:a_x" || signing.EncodeBase64(key.Public()) != v.Public {
			t.Errorf("%s: got %v, %v, want the key ed25519:a_x", name, key, err)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "blank": " \n", "no seed": "ed25519 a_x\n", "four words": "ed25519 a_x " + seedText + " x\n",
		"algorithm": "rsa a_x " + seedText, "version": "ed25519 a-x " + seedText, "short": "ed25519 a_x " + seedText[:20],
		"PEM": "-----BEGIN MATRIX PRIVATE KEY-----\n" + seedText, "alphabet": "ed25519 a_x !" + seedText[1:],
		"too long": "ed25519 a_x " + strings.Repeat(" ", 70_000) + seedText,
	} {
		_, err := signing.ReadKeyFile(writeText(t, text))
		if err == nil {
			t.Errorf("%s: got no error, want one", name)
		} else if strings.Contains(err.Error(), seedText[1:15]) {
			t.Errorf("%s: got an error with the secret in it: %v", name, err)
		}
	}
	if _, err := signing.ReadKeyFile(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got %v, want fs.ErrNotExist", err)
	}
	if _, err := signing.ReadKeyFile(t.TempDir()); err == nil {
		t.Error("directory: got no error, want one")
	}
}

func writeText(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "signing.key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWriteFile(t *testing.T) {
	_, key := readVectors(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "signing.key")
	if err := key.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	// The last digit of the specification's seed has bits beyond the 32 bytes.
	if want := "ed25519 1 " + strings.TrimSuffix(seedText, "1") + "0\n"; err != nil || string(text) != want {
		t.Errorf("got file %q, %v, want %q", text, err, want)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("got mode %v, %v, want 0600", info.Mode(), err)
	}
	again, err := signing.ReadKeyFile(path)
	if err != nil || again.ID() != key.ID() || !bytes.Equal(again.Public(), key.Public()) {
		t.Errorf("got %v, %v back, want %v", again, err, key)
	}
}

func TestWriteFileKeepsWhatIsThere(t *testing.T) {
	_, key := readVectors(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "signing.key")
	if err := key.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	other, err := signing.Generate(bytes.NewReader(make([]byte, 38)))
	if err != nil {
		t.Fatal(err)
	}
	if err := other.WriteFile(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second key: got %v, want fs.ErrExist", err)
	}
	if after, err := signing.ReadKeyFile(path); err != nil || after.ID() != key.ID() {
		t.Errorf("second key: got %v, %v in the file, want the first key", after, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v in the directory, want the key alone", entries, err)
	}
	if err := key.WriteFile(filepath.Join(dir, "none", "key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: got %v, want fs.ErrNotExist", err)
	}
}

func BenchmarkSignJSON(b *testing.B) {
	v, key := readVectors(b)
	for b.Loop() {
		if _, err := signing.SignJSON(v.Vectors[1].Input, v.ServerName, key); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyJSON(b *testing.B) {
	v, key := readVectors(b)
	for b.Loop() {
		if err := signing.VerifyJSON(v.Vectors[1].Signed, v.ServerName, v.KeyID, key.Public()); err != nil {
			b.Fatal(err)
		}
	}
}
