package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/myelin-chat/myelin/storage/storagetest"
)

// TestPostgresKill9 kills PostgreSQL under a server that goes on: first one of its backends, after which it restarts by
// itself, then all of it. The server must not lose what it acknowledged, and must go on by itself.
func TestPostgresKill9(t *testing.T) {
	database := storagetest.PostgresURL(t)
	pg := localPostgres(t, database)
	dice := crashDice(t)
	p := newProcess(t, storagetest.Dir(t), database)
	p.start(t)
	l := newLoad(t, p.url)
	r := newReader(t, l, p.url)
	refusals := &refusals{count: map[string]int{}}
	l.refused = func(m message, answer reply, err error) bool {
		refusals.add(t, m, answer, err)
		time.Sleep(retryTime)
		return true
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var group sync.WaitGroup
	group.Go(func() { l.run(ctx) })
	group.Go(func() { r.follow(ctx, t) })
	for range max(1, *crashRounds/3) {
		l.waitFor(t, crashMin/2+dice.Int64N(crashMin))
		pg.killBackend(t)
		l.waitFor(t, crashMin/2+dice.Int64N(crashMin))
		pg.killPostmaster(t)
		time.Sleep(time.Duration(dice.IntN(500)) * time.Millisecond) // it stays away for a while
		pg.restart(t)
	}
	l.waitFor(t, crashMin)
	cancel()
	group.Wait()
	found := l.check(t, "after PostgreSQL came back")
	r.catchUp(t)
	r.check(t, found)
	l.repeat(t, found)
	l.check(t, "after the repetition")
	t.Logf("%d messages were acknowledged; refused meanwhile: %v", len(l.acked), refusals.count)
}

// refusals counts the answers that were no success.
type refusals struct {
	mu    sync.Mutex
	count map[string]int
}

// add reports a refusal that tells the client nothing.
func (r *refusals) add(t *testing.T, m message, answer reply, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		t.Errorf("%v: got no answer: %v", m, err)
		return
	}
	r.count[fmt.Sprint(answer.status, " ", answer.text("error"))]++
	if answer.status != http.StatusServiceUnavailable || answer.text("errcode") == "" {
		t.Errorf("%v: got %d %v, want 503 and an errcode", m, answer.status, answer.body)
	}
}

// postgres is a PostgreSQL server on this machine that a test may kill.
type postgres struct {
	url, bin, data string
	owner          *syscall.SysProcAttr // the user it runs as
}

func localPostgres(t *testing.T, database string) *postgres {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv(storagetest.EnvURL) != "" || !strings.HasPrefix(u.Query().Get("host"), "/") {
		t.Skip("the PostgreSQL of " + storagetest.EnvURL + " is not ours to kill")
	}
	pg := &postgres{url: database, owner: &syscall.SysProcAttr{Setpgid: true}}
	pg.query(t, `SHOW data_directory`, &pg.data)
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pg.postmaster(t)))
	if err != nil {
		t.Skip("PostgreSQL does not run here: " + err.Error())
	}
	pg.bin = filepath.Dir(program)
	info, err := os.Stat(pg.data)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); int(owner.Uid) != os.Geteuid() {
		pg.owner.Credential = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	}
	t.Cleanup(func() { pg.restart(t) }) // other tests use it
	return pg
}

func (pg *postgres) query(t *testing.T, sql string, into any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pg.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), sql).Scan(into); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// killBackend kills the process that writes.
func (pg *postgres) killBackend(t *testing.T) {
	t.Helper()
	var pid int
	pg.query(t, `
		SELECT pid FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()
		ORDER BY (backend_xid IS NULL), query_start DESC LIMIT 1`, &pid)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func (pg *postgres) postmaster(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(pg.data, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	pid, err := strconv.Atoi(string(line))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func (pg *postgres) killPostmaster(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(pg.postmaster(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// restart starts the server as it was started before, if it does not run.
func (pg *postgres) restart(t *testing.T) {
	t.Helper()
	if conn, err := pgx.Connect(context.Background(), pg.url); err == nil {
		conn.Close(context.Background())
		return
	}
	var last error
	for range 20 { // while a process of the old one lives it refuses to start
		cmd := exec.Command(filepath.Join(pg.bin, "pg_ctl"), "-D", pg.data, "-l", filepath.Join(filepath.Dir(pg.data), "log"),
			"-w", "-t", "60", "-m", "immediate", "restart")
		cmd.Dir, cmd.SysProcAttr = pg.data, pg.owner
		if last = cmd.Run(); last == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error(errors.Join(errors.New("PostgreSQL does not come back"), last))
}
