package roomserver

import (
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/roomserver/local"
	"github.com/myelin-chat/myelin/roomserver/member"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/roomserver/receive"
	"github.com/myelin-chat/myelin/roomserver/resident"
)

// What a Server takes and gives, under one name for all who call it.
type (
	// A State is the state of a room at one moment.
	State = committed.State
	// Profiles tells how users of this server show themselves.
	Profiles = member.Profiles

	// CreateRoom says what a new room is to be.
	CreateRoom = local.CreateRoom
	// InitialState is a piece of state that a room begins with.
	InitialState = local.InitialState
	// A SendEvent is an event to be sent that is not state.
	SendEvent = local.SendEvent
	// A SendState is a state event to be sent.
	SendState = local.SendState
	// A Txn is the transaction ID of a request.
	Txn = local.Txn
	// A RedactEvent asks for the content of an event to be removed.
	RedactEvent = local.RedactEvent
	// A Move is a change of somebody's membership by somebody else.
	Move = local.Move
	// JoinRoom is a wish to join.
	JoinRoom = local.JoinRoom
	// An Invite is an invite of ours on its way to the server of the invited user.
	Invite = local.Invite
	// A ThirdPartyInvite is the wish of a server that a user of its own be invited.
	ThirdPartyInvite = local.ThirdPartyInvite
	// A SetReceipt says how far a user has read.
	SetReceipt = local.SetReceipt
	// A DirectoryQuery asks for a page of the directory.
	DirectoryQuery = local.DirectoryQuery
	// A DirectoryPage is a page of the directory.
	DirectoryPage = local.DirectoryPage

	// A Visit is a user of another server who wants to come into a room, or to leave it.
	Visit = resident.Visit
	// A Template is a membership event to be.
	Template = resident.Template
	// A Sent event is the membership event that a server has made of a template.
	Sent = resident.Sent
	// A Welcome is what a server that joins is given.
	Welcome = resident.Welcome

	// Outcome says what became of an event that another server sent.
	Outcome = owner.Outcome
	// A Result is what became of one event.
	Result = owner.Result
	// A JoinAnswer is what a resident server gives to one of ours that joins.
	JoinAnswer = owner.JoinAnswer
	// A Jump is a leap over missing history to the event nearest to a moment.
	Jump = receive.Jump
	// A Standing is how a user of this server stands to a room that this server may be in or not.
	Standing = receive.Standing

	// Remote is what a room asks of other servers.
	Remote = receive.Remote
	// A Gap is a hole in what we know of a room.
	Gap = receive.Gap
	// Between is what a server has in a Gap.
	Between = receive.Between
	// A History is a stretch of a room's past.
	History = receive.History
	// StateIDs is the state before an event, and the auth chain of that state, by their IDs.
	StateIDs = receive.StateIDs
	// StateEvents is the state before an event, and the auth chain of that state.
	StateEvents = receive.StateEvents
)

// The outcomes.
const (
	Accepted   = owner.Accepted
	SoftFailed = owner.SoftFailed
	Rejected   = owner.Rejected
	Known      = owner.Known
	Missing    = owner.Missing
	Refused    = owner.Refused
	Busy       = owner.Busy
	Failed     = owner.Failed
)

// The types of receipts.
const (
	ReceiptRead        = local.ReceiptRead
	ReceiptReadPrivate = local.ReceiptReadPrivate
)

// TypeDummy is an event that joins forward extremities and says nothing.
const TypeDummy = owner.TypeDummy

// IsFenced says whether an error came of a room that is fenced off, since work for it panicked.
func IsFenced(err error) bool { return owner.IsFenced(err) }
