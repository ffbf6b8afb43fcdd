package httpapi

import (
	"crypto/tls"
	"os"
	"sync"
	"time"
)

// certificate is a TLS certificate in files, read again when they change: a renewal needs no restart.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	loaded  *tls.Certificate
	changed time.Time // of certFile, when it was read
}

// get implements tls.Config.GetCertificate. If the files cannot be read, or do not match while they are being replaced,
// the certificate stays what it was.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(c.certFile)
	if err == nil && c.loaded != nil && info.ModTime().Equal(c.changed) {
		return c.loaded, nil
	}
	var fresh tls.Certificate
	if err == nil {
		fresh, err = tls.LoadX509KeyPair(c.certFile, c.keyFile)
	}
	if err == nil {
		c.loaded, c.changed = &fresh, info.ModTime()
	}
	if c.loaded == nil {
		return nil, err
	}
	return c.loaded, nil
}
