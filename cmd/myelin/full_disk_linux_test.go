package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/storage/storagetest"
)

// smallDisk is a process wrapper that mounts a small filesystem at a folder, which only the process sees, and ends with it.
const smallDisk = `mount -t tmpfs -o size=%dk,mode=700 myelin %s && exec "$@"`

const (
	diskKB   = 24 << 10
	ballast  = "ballast" // what an operator may delete
	roomBack = 10 * time.Second
)

// ownMounts lets a process mount, as root or, where that is allowed, in a user namespace of its own.
func ownMounts() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// TestFullDisk fills the disk under a server: writes are refused with an error that says so, reads go on, and when there
// is room again so do writes. Nothing that was acknowledged is lost.
func TestFullDisk(t *testing.T) {
	dir := storagetest.Dir(t)
	mount := fmt.Sprintf(smallDisk, diskKB, shellQuote(dir))
	probe := exec.Command("sh", "-c", mount, "sh", "true")
	probe.SysProcAttr = ownMounts()
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("no small disk can be mounted here: %v %s", err, out)
	}
	p := newProcess(t, dir, "sqlite")
	p.wrap, p.attr = []string{"sh", "-c", mount, "sh"}, ownMounts()
	p.start(t)
	disk, err := os.OpenRoot(fmt.Sprintf("/proc/%d/root%s", p.cmd.Process.Pid, dir)) // it lives on with this file
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if err := disk.WriteFile(ballast, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}

	l := newLoad(t, p.url)
	r := newReader(t, l, p.url)
	l.filler = strings.Repeat("x", 2000)
	fill(t, l)
	if err := disk.WriteFile("rest", make([]byte, diskKB<<10), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: got %v", err)
	}
	underFullDisk(t, l.senders[0], l.rooms[0])
	r.catchUp(t)
	r.check(t, l.check(t, "while the disk is full"))

	for _, name := range []string{"rest", ballast} {
		if err := disk.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	l.repeatUntil(t, time.Now().Add(roomBack))
	l.filler = ""
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var group sync.WaitGroup
	group.Go(func() { l.run(ctx) })
	l.waitFor(t, 200)
	p.kill()
	group.Wait()

	p.wrap, p.attr = nil, nil
	if err := disk.Remove("control.sock"); err != nil { // no file that can be copied
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, disk.FS()); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	found := l.check(t, "after the restart")
	r.catchUp(t)
	r.check(t, found)
	t.Logf("%d messages were acknowledged", len(l.acked))
}

// fill sends until no sender can any more.
func fill(t *testing.T, l *load) {
	t.Helper()
	var mu sync.Mutex
	tries := map[string]int{}
	l.refused = func(m message, answer reply, err error) bool {
		mu.Lock()
		defer mu.Unlock()
		isFull(t, fmt.Sprint(m), answer, err)
		tries[m.sender]++
		return tries[m.sender] < 3
	}
	before := l.acks.Load()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l.run(ctx)
	if ctx.Err() != nil || l.acks.Load() == before {
		t.Fatalf("the disk is not full: %d messages are acknowledged (%v)", l.acks.Load()-before, ctx.Err())
	}
	l.refused = func(m message, answer reply, err error) bool {
		if err == nil {
			t.Errorf("%v: got %d %v", m, answer.status, answer.body)
		}
		return false
	}
}

// isFull reports unless the answer says clearly that the disk is full.
func isFull(t *testing.T, what string, answer reply, err error) {
	t.Helper()
	switch {
	case err != nil:
		t.Errorf("%s: got no answer: %v", what, err)
	case answer.status != http.StatusInsufficientStorage, answer.text("errcode") == "", !strings.Contains(answer.text("error"), "full"):
		t.Errorf("%s: got %d %v, want 507, an errcode and that the disk is full", what, answer.status, answer.body)
	}
}

// underFullDisk reads, which works, and writes in different ways, which does not.
func underFullDisk(t *testing.T, s session, room string) {
	t.Helper()
	for _, path := range []string{"/sync", "/account/whoami", "/joined_rooms", inRoom(room, "/joined_members"), inRoom(room, "/members"), "/devices"} {
		s.must(t, "GET", path, "")
	}
	s.must(t, "PUT", inRoom(room, "/typing/%s", s.user), `{"typing":true,"timeout":1000}`)
	long := strings.Repeat("y", 30_000)
	for _, write := range [][3]string{
		{"PUT", inRoom(room, "/send/m.room.message/full"), `{"msgtype":"m.text","body":"` + long + `"}`},
		{"PUT", "/user/" + s.user + "/account_data/org.example", `{"y":"` + long + `"}`},
		{"POST", "/user/" + s.user + "/filter", `{"event_fields":["` + long + `"]}`},
		{"POST", "/createRoom", `{"topic":"` + long + `"}`},
	} {
		answer, err := s.ask(t.Context(), write[0], write[1], write[2])
		if answer.status != http.StatusOK { // it may still fit into the write-ahead log
			isFull(t, write[0]+" "+write[1], answer, err)
		}
	}
	response, err := http.Get(s.url + "/ready")
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	_, _ = text.ReadFrom(response.Body)
	response.Body.Close()
	t.Logf("/ready while the disk is full: %s %s", response.Status, text.String())
}

// repeatUntil sends what is pending until all is stored.
func (l *load) repeatUntil(t *testing.T, deadline time.Time) {
	t.Helper()
	for _, s := range l.senders {
		m, ok := l.pending[s.user]
		for ok {
			answer, err := s.ask(t.Context(), "PUT", m.path(), m.body())
			if err == nil && answer.status == http.StatusOK {
				l.acknowledge(m, answer.text("event_id"))
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("there is room, and %v fails still: got %d %v and %v", m, answer.status, answer.body, err)
			}
			time.Sleep(retryTime)
		}
	}
}
