package inbox

import (
	"errors"

	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
)

// That the work of a transaction is done is noted together with the next that is stored, or within a second: a commit of
// its own would cost the disk as much as the work. What a crash leaves without its note is given to the rooms once more,
// which know it.

// finish takes up transactions of which the work is done.
func (in *Inbox) finish(nums ...int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.finished = append(in.finished, nums...)
}

// takeFinished returns what is to be noted, and leaves it to the caller.
func (in *Inbox) takeFinished() servers.FinishTransactions {
	in.mu.Lock()
	defer in.mu.Unlock()
	nums := in.finished
	in.finished = nil
	return nums
}

// noteFinished notes what no other transaction took along. What cannot be noted now is taken up again.
func (in *Inbox) noteFinished() {
	nums := in.takeFinished()
	if len(nums) == 0 {
		return
	}
	in.DB.Submit(nums, func(_ storage.Position, err error) {
		if err == nil {
			return
		}
		in.finish(nums...)
		if !errors.Is(err, storage.ErrClosed) {
			in.Log.Warn("that transactions were processed is not noted yet", "transactions", len(nums), "cause", err)
		}
	})
}
