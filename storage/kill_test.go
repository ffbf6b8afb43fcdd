package storage_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// envVictim makes this test binary the process that TestKill kills: the data directory and URL.
const envVictim = "MYELIN_TEST_VICTIM"

// TestKillVictim is not a test of its own: it writes until it is killed, and prints what is acknowledged.
func TestKillVictim(t *testing.T) {
	dir, url, ok := strings.Cut(os.Getenv(envVictim), "|")
	if !ok {
		t.Skip("started by TestKill only")
	}
	db := open(t, storage.Settings{URL: url, DataDir: dir})
	run(t, db)
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				if _, err := db.Commit(context.Background(), insertThing(id)); err != nil {
					panic(err)
				}
				fmt.Println("acked", id)
			}
		}()
	}
	select {}
}

// TestKill kills a process under load, and looks for all that it had acknowledged.
func TestKill(t *testing.T) {
	eachKind(t, func(t *testing.T, s storage.Settings) {
		db := open(t, s)
		makeTables(t, db)
		db.Close()
		acked := map[string]bool{}
		for range 2 {
			killOne(t, s, acked)
		}
		again := open(t, s)
		stored := map[string]bool{}
		for _, id := range thingIDs(t, again) {
			stored[id] = true
		}
		for id := range acked {
			if !stored[id] {
				t.Errorf("%s was acknowledged, and is not there", id)
			}
		}
		if int(again.Position()) != len(stored) {
			t.Errorf("position %d, and %d rows are stored", again.Position(), len(stored))
		}
	})
}

// killOne starts a victim and kills it after some hundred acknowledged writes.
func killOne(t *testing.T, s storage.Settings, acked map[string]bool) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillVictim$", "-test.v")
	cmd.Env = append(os.Environ(), envVictim+"="+s.DataDir+"|"+s.URL)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); {
		if id, ok := strings.CutPrefix(lines.Text(), "acked "); ok {
			acked[id] = true
			if n++; n == 300 {
				cmd.Process.Kill()
			}
		}
	}
	cmd.Wait()
	if len(acked) < 300 {
		t.Fatalf("the victim acknowledged %d writes only", len(acked))
	}
}

// TestLogStaysBounded writes far more than the write-ahead log may hold.
func TestLogStaysBounded(t *testing.T) {
	s := storagetest.Settings(t, storagetest.SQLite)
	db := open(t, s)
	makeTables(t, db)
	run(t, db)
	body := strings.Repeat("x", 4_000_000)
	largest := int64(0)
	for i := range 60 { // 240 MB
		mustCommit(t, db, write(func(it *storage.Item) { it.Insert(notes, fmt.Sprint(i%3), body, nil) }))
		if info, err := os.Stat(filepath.Join(s.DataDir, "myelin.db-wal")); err == nil {
			largest = max(largest, info.Size())
		}
	}
	if largest > 100<<20 {
		t.Errorf("the write-ahead log grew to %d bytes, want at most 100 MB", largest)
	}
}
