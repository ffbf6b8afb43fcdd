package storagetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Environment variables.
const (
	// EnvURL names a PostgreSQL server to use instead of starting one: a postgres:// URL of
	// a user that may create databases.
	EnvURL = "MYELIN_TEST_POSTGRES"
	// EnvSync, if not empty, starts the server with fsync, as benchmarks need it.
	EnvSync = "MYELIN_TEST_POSTGRES_SYNC"
)

// server is the one server of this test process.
var server struct {
	once sync.Once
	url  *url.URL
	skip string // why there is none, though nothing is wrong
	err  error
	life io.Closer // the pipe whose end is the end of the server; held here, or its finalizer would close it
}

var databases atomic.Int64

// PostgresURL makes a fresh database with the collation C, dropped at the end of the test, and
// returns its URL. It skips the test if there is no PostgreSQL.
func PostgresURL(t testing.TB) string {
	t.Helper()
	server.once.Do(func() { server.url, server.skip, server.err = findServer() })
	if server.skip != "" {
		t.Skip("PostgreSQL is not tested: " + server.skip)
	}
	if server.err != nil {
		t.Fatalf("start PostgreSQL: %v", server.err)
	}
	name := fmt.Sprintf("myelin_test_%d_%d", os.Getpid(), databases.Add(1))
	execute(t, "CREATE DATABASE "+name+" ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	t.Cleanup(func() { execute(t, "DROP DATABASE "+name+" WITH (FORCE)") })
	u := *server.url
	u.Path = "/" + name
	return u.String()
}

// execute runs a statement that no transaction may hold.
func execute(t testing.TB, sql string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, server.url.String())
	if err != nil {
		t.Fatalf("connect to PostgreSQL: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// findServer starts a server unless one is named. That there is none on the machine is no mistake; that one does not
// start is.
func findServer() (u *url.URL, skip string, err error) {
	if given := os.Getenv(EnvURL); given != "" {
		u, err = url.Parse(given)
		return u, "", err
	}
	bin := programs()
	if bin == "" {
		return nil, "no initdb and postgres on this machine, and " + EnvURL + " is not set", nil
	}
	u, err = startServer(bin)
	return u, "", err
}

// programs is the folder with the newest initdb and postgres.
func programs() string {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
	dirs = append(dirs, filepath.SplitList(os.Getenv("PATH"))...)
	for _, dir := range dirs {
		_, initErr := os.Stat(filepath.Join(dir, "initdb"))
		_, err := os.Stat(filepath.Join(dir, "postgres"))
		if initErr == nil && err == nil {
			return dir
		}
	}
	return ""
}

func version(dir string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
	return n
}

// supervise runs the server and ends it when its standard input does, which the kernel closes
// with this process however that ends. It says "ready" once the server takes connections.
const supervise = `
trap '' INT TERM HUP
dir=$1 bin=$2 sync=$3
"$bin/initdb" -D "$dir/data" -U myelin -A trust -E UTF8 --locale=C --no-sync >"$dir/log" 2>&1 || { echo failed; exit 1; }
if "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t 60 -o "-k $dir -c listen_addresses= -c fsync=$sync \
	-c max_connections=200 -c shared_buffers=64MB -c max_wal_size=1GB" start >/dev/null 2>&1 </dev/null
then echo ready; else echo failed; fi
exec >/dev/null
read -r forever
"$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1
cd / && rm -rf "$dir"
`

// startServer starts a server on a Unix socket in a folder of its own, as another user if we are root,
// for whom it refuses to run.
func startServer(bin string) (*url.URL, error) {
	parent := memory()
	if fsync() == "on" {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "myelin-pg-")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("sh", "-c", supervise, "sh", dir, bin, fsync())
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // no signal of the terminal reaches it
	if os.Geteuid() == 0 {
		uid, gid, err := unprivileged()
		if err != nil {
			return nil, err
		}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			return nil, err
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	}
	if server.life, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "ready" {
		text, _ := os.ReadFile(filepath.Join(dir, "log"))
		return nil, fmt.Errorf("the server does not start: %s", text)
	}
	return &url.URL{Scheme: "postgres", User: url.User("myelin"), Path: "/postgres", RawQuery: url.Values{"host": {dir}}.Encode()}, nil
}

// fsync is off for tests, which lose nothing that matters.
func fsync() string {
	if os.Getenv(EnvSync) != "" {
		return "on"
	}
	return "off"
}

// unprivileged finds a user to run the server as.
func unprivileged() (uid, gid uint32, err error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		id, err1 := strconv.ParseUint(u.Uid, 10, 32)
		group, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return uint32(id), uint32(group), nil
		}
	}
	return 0, 0, fmt.Errorf("no user postgres or nobody to run the server as")
}
