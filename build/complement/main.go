// Complement is the entry point of the image for the public conformance suite of
// that name. At each start it writes a configuration as the suite asks for, issues
// a certificate from the suite's authority, and becomes `myelin serve`.
//
// The suite gives the server's name as SERVER_NAME. Settings can be changed by
// MYELIN_... variables, as ever.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// paths are where the entry point finds and puts things.
type paths struct {
	suite  string // what the suite copies in
	data   string // what the server keeps, and the files written here
	server string // the server's binary
}

func main() {
	p := paths{suite: "/complement", data: "/data", server: "/myelin"}
	file, err := p.prepare(os.Getenv("SERVER_NAME"))
	if err == nil {
		err = syscall.Exec(p.server, []string{p.server, "serve", "--config", file}, os.Environ())
	}
	fmt.Fprintln(os.Stderr, "complement:", err)
	os.Exit(1)
}

// prepare writes the certificate and the configuration, and returns the name of
// the latter's file. What is there already is written anew.
func (p paths) prepare(serverName string) (file string, err error) {
	if serverName == "" {
		return "", errors.New("SERVER_NAME is not set")
	}
	if err := os.MkdirAll(p.data, 0o700); err != nil {
		return "", err
	}
	authority, err := tls.LoadX509KeyPair(p.caFile(), filepath.Join(p.suite, "ca", "ca.key"))
	if err != nil {
		return "", fmt.Errorf("read the suite's authority: %w", err)
	}
	if err := p.issue(authority, serverName); err != nil {
		return "", fmt.Errorf("issue a certificate: %w", err)
	}
	text, err := p.configuration(serverName)
	if err != nil {
		return "", err
	}
	file = filepath.Join(p.data, "myelin.yaml")
	return file, os.WriteFile(file, text, 0o600)
}

func (p paths) caFile() string   { return filepath.Join(p.suite, "ca", "ca.crt") }
func (p paths) certFile() string { return filepath.Join(p.data, "tls.crt") }
func (p paths) keyFile() string  { return filepath.Join(p.data, "tls.key") }

// issue makes a key and a certificate for serverName, signed by authority.
func (p paths) issue(authority tls.Certificate, serverName string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	now := time.Now()
	leaf := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: serverName}, DNSNames: []string{serverName},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, authority.Leaf, key.Public(), authority.PrivateKey)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(p.certFile(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(p.keyFile(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
	)
}

// configuration returns the settings the suite needs: everything open, nothing
// limited, its own authority trusted, private addresses allowed.
func (p paths) configuration(serverName string) ([]byte, error) {
	services, err := filepath.Glob(filepath.Join(p.suite, "appservice", "*.yaml"))
	if err != nil {
		return nil, err
	}
	type m map[string]any
	return json.Marshal(m{ // which is YAML too
		"server_name": serverName,
		"data_dir":    p.data,
		"listen": []m{
			{"address": ":8008"},
			{"address": ":8448", "tls_cert": p.certFile(), "tls_key": p.keyFile()},
		},
		"registration":               "open",
		"registration_shared_secret": "complement",
		"password_hash_cost":         4,
		"rate_limits":                m{"enabled": false},
		"guests":                     true,
		// The suite gives creators power levels of their own, which version 12 forbids.
		"default_room_version": "11",
		"federation":           m{"ca_file": p.caFile()},
		"outbound":             m{"allow_private_addresses": true},
		"app_services":         services,
		"log":                  m{"level": "warn"},
	})
}
