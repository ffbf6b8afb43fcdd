package servers_test

import (
	"errors"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

func commit(t *testing.T, db *storage.DB, w storage.Write) {
	t.Helper()
	if _, err := db.Commit(t.Context(), w); err != nil {
		t.Fatalf("commit %T: %v", w, err)
	}
}

func staged(t *testing.T, db *storage.DB) (nums []int64) {
	t.Helper()
	all, err := servers.Staged(t.Context(), db, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		nums = append(nums, s.Num)
	}
	return nums
}

func TestStagedTransactions(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		first := servers.StagedTransaction{
			Num: db.NextNumber(), Origin: "a.org", ID: "1", ReceivedMS: 100, Answer: []byte(`{"pdus":{}}`), Work: []byte("{\"x\":\"\\u0000\"}"),
		}
		commit(t, db, first)
		twin := first
		twin.Num = db.NextNumber()
		if _, err := db.Commit(t.Context(), twin); !errors.Is(err, storage.ErrDuplicate) {
			t.Errorf("a repeat: got %v, want ErrDuplicate", err)
		}
		other := twin
		other.Origin, other.ReceivedMS = "b.org", 200
		commit(t, db, other)
		empty := first
		empty.Num, empty.ID, empty.Work, empty.ReceivedMS = db.NextNumber(), "2", nil, 120
		commit(t, db, empty)

		answer, found, err := servers.AnswerTo(t.Context(), db, "a.org", "1")
		if err != nil || !found || string(answer) != `{"pdus":{}}` {
			t.Errorf("the answer: got %s, %v, %v, want that of the transaction", answer, found, err)
		}
		if _, found, _ := servers.AnswerTo(t.Context(), db, "c.org", "1"); found {
			t.Error("the answer to another server: got one, want none")
		}
		if got := staged(t, db); len(got) != 2 || got[0] != first.Num || got[1] != other.Num {
			t.Errorf("staged: got %v, want %d and %d", got, first.Num, other.Num)
		}
		work, err := servers.StagedWork(t.Context(), db, first.Num)
		if err != nil || string(work) != string(first.Work) {
			t.Errorf("work: got %q, %v, want %q", work, err, first.Work)
		}

		commit(t, db, servers.CountStart{})
		last := servers.StagedTransaction{Num: db.NextNumber(), Origin: "c.org", ID: "1", Answer: []byte(`{}`)}
		last.Finished = servers.FinishTransactions{first.Num, last.Num}
		commit(t, db, last)
		commit(t, db, servers.CountStart{})
		all, err := servers.Staged(t.Context(), db, first.Num, 100)
		if err != nil || len(all) != 1 || all[0].Starts != 2 || all[0].Origin != "b.org" || all[0].WorkBytes != int64(len(first.Work)) {
			t.Errorf("after the first is done: got %+v, %v, want the other with 2 starts", all, err)
		}
		if work, err := servers.StagedWork(t.Context(), db, first.Num); err != nil || work != nil {
			t.Errorf("work that is done: got %q, %v, want none", work, err)
		}

		commit(t, db, servers.ForgetTransactions{BeforeMS: 150, Limit: 1})
		if _, found, _ := servers.AnswerTo(t.Context(), db, "a.org", "2"); !found {
			t.Error("a bounded deletion took more than its limit")
		}
		if old, err := servers.HasOldTransactions(t.Context(), db, 1000); err != nil || !old {
			t.Errorf("something old is there: got %v, %v, want true", old, err)
		}
		commit(t, db, servers.ForgetTransactions{BeforeMS: 1000, Limit: 10})
		if old, err := servers.HasOldTransactions(t.Context(), db, 1000); err != nil || old {
			t.Errorf("something old is left: got %v, %v, want false", old, err)
		}
		if _, found, _ := servers.AnswerTo(t.Context(), db, "a.org", "2"); found {
			t.Error("what is old and done is still there")
		}
		if _, found, _ := servers.AnswerTo(t.Context(), db, "b.org", "1"); !found {
			t.Error("what is not done was forgotten")
		}
	})
}

func TestSuspectEvents(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for i, id := range []matrix.EventID{"$a", "$b", "$a"} {
			commit(t, db, servers.SuspectEvent{Room: "!r:a", Event: id, Panics: int64(i) + 1, SeenMS: int64(i)})
		}
		got, err := servers.SuspectEvents(t.Context(), db, 10)
		if err != nil || len(got) != 2 || got[0] != (servers.SuspectEvent{Room: "!r:a", Event: "$a", Panics: 3, SeenMS: 2}) {
			t.Errorf("suspects: got %v, %v, want $a with 3 panics first, and $b", got, err)
		}
		commit(t, db, servers.ClearSuspect{Room: "!r:a", Event: "$a"})
		if got, err = servers.SuspectEvents(t.Context(), db, 10); err != nil || len(got) != 1 || got[0].Event != "$b" {
			t.Errorf("after $a is cleared: got %v, %v, want $b", got, err)
		}
	})
}
