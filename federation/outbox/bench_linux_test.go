package outbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// plainHTTP sends as outbound does, but without TLS and discovery, all to one server.
type plainHTTP struct {
	url    string
	client *http.Client
	key    signing.Key
}

// Permits implements Sender.
func (p plainHTTP) Permits(matrix.ServerName) error { return nil }

// Send implements Sender.
func (p plainHTTP) Send(ctx context.Context, to matrix.ServerName, tx Transaction) (Answer, error) {
	uri := outbound.Path("_matrix", "federation", "v1", "send", tx.ID)
	content, err := canonical.JSON(tx.Body, canonical.Lenient)
	if err != nil {
		return Answer{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, p.url+uri, bytes.NewReader(content))
	if err != nil {
		return Answer{}, err
	}
	r.Header.Set("Authorization", outbound.SignedRequest{
		Method: r.Method, URI: uri, Origin: us, Destination: to, Content: content,
	}.Sign(p.key).String())
	answer, err := p.client.Do(r)
	if err != nil {
		return Answer{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return readAnswer(text), err
}

// BenchmarkDelivery: an event to many servers, from its commit to their answers; the CPU time is that of the whole
// process, the receivers' net/http and the commit included.
func BenchmarkDelivery(b *testing.B) {
	for _, kind := range storagetest.Kinds {
		for _, n := range []int{1, 50} {
			b.Run(fmt.Sprintf("%s/destinations=%d", kind, n), func(b *testing.B) { benchmarkDelivery(b, kind, n) })
		}
	}
}

func benchmarkDelivery(b *testing.B, kind string, n int) {
	arrived := make(chan struct{}, n)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, `{"pdus":{}}`)
		arrived <- struct{}{}
	}))
	defer server.Close()
	key, err := signing.Generate(strings.NewReader(strings.Repeat("k", 64)))
	if err != nil {
		b.Fatal(err)
	}
	v := newVillage(b, storagetest.Open(b, kind))
	client := &http.Client{Transport: &http.Transport{MaxIdleConns: 200, MaxIdleConnsPerHost: 200}}
	box := v.outbox(plainHTTP{server.URL, client, key}, time.Now)
	stop := start(b, box)
	r := v.room("r", names(n, "s")...)
	body := strings.Repeat("x", 400)
	begun, startCPU := time.Now(), cpuTime()
	for b.Loop() {
		v.say(r, body)
		box.Wake()
		for range n {
			<-arrived
		}
	}
	deliveries := float64(b.N * n)
	b.ReportMetric(float64((cpuTime()-startCPU).Microseconds())/deliveries, "CPU-µs/delivery")
	b.ReportMetric(float64(time.Since(begun).Microseconds())/float64(b.N), "µs-until-all")
	stop()
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
