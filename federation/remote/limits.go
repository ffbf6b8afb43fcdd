package remote

import "time"

// The sizes at which answers end.
const (
	// maxStateBytes is of the state of a room in full. The largest rooms there are have some 100,000 state events of
	// about 1 kB each.
	maxStateBytes = 192 << 20
	// maxStateIDsBytes is of the same as IDs: 53 bytes each.
	maxStateIDsBytes = 16 << 20
	// maxAuthChainBytes is of one event's auth chain.
	maxAuthChainBytes = 32 << 20
	// maxEventsBytes is of a list of events: 500 of the largest there are.
	maxEventsBytes = 32 << 20
	// maxEventBytes is of one event, and what may stand around it. It may be written with escapes, which event.Parse
	// accepts up to eight times the size of its canonical form.
	maxEventBytes = 1 << 20

	maxTemplateBytes  = 256 << 10
	maxStrippedBytes  = 4 << 20
	maxSmallBytes     = 64 << 10
	maxProfileBytes   = 256 << 10 // a profile has 64 KiB, which escapes can make longer
	maxAliasBytes     = 1 << 20   // an alias may name thousands of servers
	maxDirectoryBytes = 8 << 20
	maxKeysBytes      = 16 << 20

	// maxElementBytes is of one event in a list: what event.Parse looks at.
	maxElementBytes = 512 << 10
	maxNameBytes    = 1024     // of a member of an object that is read piece by piece
	maxKeyBytes     = 64 << 10 // of one device's keys

	// maxHeldBytes is of the events of all answers that are being read at a time.
	maxHeldBytes = 512 << 20
	// eventOverheadBytes is what an event in memory takes beside its JSON.
	eventOverheadBytes = 640
)

// The numbers at which lists end.
const (
	maxStateEvents    = 250_000
	maxMissingEvents  = 100 // that are asked for at a time
	maxBackfill       = 500
	maxBackfillFrom   = 50 // each is a part of the URI
	maxStrippedEvents = 64
	maxServersInRoom  = 20_000
	maxAliasServers   = 1000
	maxSignatures     = 4      // that are taken over from one server
	maxElements       = 10_000 // of a list in an answer to a query
	maxDevices        = 1000   // of one user
	maxMembers        = 10_000 // of an object that is read piece by piece
	// maxWaste is of events that are refused, and of repetitions: what is a few bytes to send costs as much to find out
	// as an event does.
	maxWaste = 10_000
)

// How long requests may take, until the end of the answer.
const (
	// stateTimeout is for what a server may have to compute from far back, and then send in full.
	stateTimeout = 3 * time.Minute
	// handshakeTimeout is for a step of joining or leaving that somebody waits for.
	handshakeTimeout = 40 * time.Second
	eventsTimeout    = 60 * time.Second
	// queryTimeout is for what a client waits for, and can do without.
	queryTimeout = 15 * time.Second
	// policyTimeout is for a policy server, which every message of a room waits for.
	policyTimeout = 10 * time.Second
)
