package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/config"
)

// suite writes what the suite copies into a container, with an authority like its own.
func suite(t *testing.T) (paths, *x509.CertPool) {
	t.Helper()
	dir := t.TempDir()
	p := paths{suite: filepath.Join(dir, "complement"), data: filepath.Join(dir, "data")}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "suite"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(p.suite, "ca"), 0o700))
	for file, block := range map[string]*pem.Block{
		"ca.crt": {Type: "CERTIFICATE", Bytes: der},
		"ca.key": {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)},
	} {
		must(t, os.WriteFile(filepath.Join(p.suite, "ca", file), pem.EncodeToMemory(block), 0o600))
	}
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return p, pool
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestPrepareIssuesACertificateAtEachStart(t *testing.T) {
	p, pool := suite(t)
	var serials []string
	for range 2 {
		_, err := p.prepare("hs1")
		must(t, err)
		pair, err := tls.LoadX509KeyPair(p.certFile(), p.keyFile())
		must(t, err)
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: "hs1", Roots: pool}); err != nil {
			t.Errorf("the certificate does not hold for hs1: %v", err)
		}
		serials = append(serials, pair.Leaf.SerialNumber.String())
	}
	if serials[0] == serials[1] {
		t.Errorf("serial numbers: got %s twice, want a new certificate at each start", serials[0])
	}
}

func TestPrepareWritesValidSettings(t *testing.T) {
	p, _ := suite(t)
	file, err := p.prepare("hs2")
	must(t, err)
	c, err := config.Load(config.Sources{File: file})
	if err != nil {
		t.Fatalf("load %s: %v", file, err)
	}
	if c.ServerName != "hs2" || c.Registration != config.Open || c.RateLimits.Enabled || len(c.Listen) != 2 {
		t.Errorf("got %+v, want hs2, open, unlimited, with two listeners", c)
	}
}

func TestPrepareNeedsANameAndAnAuthority(t *testing.T) {
	p, _ := suite(t)
	if _, err := p.prepare(""); err == nil {
		t.Error("without a name: got no error")
	}
	p.suite = t.TempDir()
	if _, err := p.prepare("hs1"); err == nil {
		t.Error("without an authority: got no error")
	}
}
