package main

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/federation"
	"github.com/myelin-chat/myelin/federation/access"
	"github.com/myelin-chat/myelin/federation/audience"
	"github.com/myelin-chat/myelin/federation/devicelists"
	"github.com/myelin-chat/myelin/federation/history"
	"github.com/myelin-chat/myelin/federation/inbox"
	"github.com/myelin-chat/myelin/federation/intake"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/federation/membership"
	"github.com/myelin-chat/myelin/federation/network"
	"github.com/myelin-chat/myelin/federation/outbox"
	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/federation/query"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/federation/spaces"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// others are the parts by which a server is one of many. There are none if it keeps to itself.
type others struct {
	client *outbound.Client
	ring   *keys.Ring
	ask    *remote.Client

	network *network.Network
	outbox  *outbox.Outbox
	herald  *audience.Herald
	devices *devicelists.Teller
	inbox   *inbox.Inbox
	api     federation.API
}

// openNetwork makes what rooms need of others.
func (p *parts) openNetwork(ctx context.Context) (err error) {
	c := p.config
	if !c.Federation.Enabled {
		return nil
	}
	o := &others{}
	o.client, err = outbound.New(outbound.Settings{
		Federation: c.Federation, Outbound: c.Outbound, ServerName: c.ServerName, Key: p.key,
		UserAgent: "Myelin/" + version, Now: time.Now,
	})
	if err != nil {
		return err
	}
	p.onClose(o.client.Close)
	o.ring, err = keys.New(ctx, keys.Settings{
		DB: p.db, Client: o.client, ServerName: c.ServerName, Key: p.key, KeyServers: c.Federation.KeyServers,
		Now: time.Now, Log: p.log,
	})
	o.ask = remote.New(remote.Settings{HTTP: o.client, Verifier: o.ring, Log: p.log})
	p.others = o
	return err
}

// joinNetwork makes what needs the rooms.
func (p *parts) joinNetwork(context.Context) error {
	o := p.others
	if o == nil {
		return nil
	}
	o.network = network.New(network.Settings{Rooms: p.rooms, Remote: o.ask, Key: p.key, Now: time.Now, Log: p.log})
	o.inbox = inbox.New(inbox.Settings{
		DB: p.db, Receive: p.rooms.Receive, SetReceipt: p.rooms.SetReceipt, Now: time.Now, Log: p.log,
	})
	if err := p.tellOthers(); err != nil {
		return err
	}
	p.answerOthers()
	return nil
}

// tellOthers makes what tells other servers, unasked.
func (p *parts) tellOthers() error {
	o := p.others
	residents := audience.NewRooms(p.db, p.rooms)
	o.outbox = outbox.New(outbox.Settings{
		DB: p.db, ServerName: p.config.ServerName, Rooms: residents, Sender: outbox.HTTP(o.client), Log: p.log,
	})
	o.herald = audience.NewHerald(audience.HeraldSettings{
		Ephemeral: p.ephemeral, Outbox: o.outbox, ServerName: p.config.ServerName, Now: time.Now, Log: p.log,
	})
	o.devices = devicelists.New(devicelists.Settings{
		DB: p.db, ServerName: p.config.ServerName, Rooms: residents, Permits: o.client.Permits, Now: time.Now,
		Log: p.log,
	})
	for _, wake := range []func(){o.outbox.Wake, o.devices.Wake} {
		stop, err := onMoved(p.bus, wake)
		if err != nil {
			return err
		}
		p.onClose(stop)
	}
	return nil
}

// answerOthers makes what other servers call.
func (p *parts) answerOthers() {
	o := p.others
	may := access.New(p.db, p.rooms)
	gate := &peer.Gate{
		Ring: o.ring, Client: o.client, Limits: peer.NewLimits(p.config.RateLimits, time.Now), Heard: o.outbox.Heard,
	}
	o.api = federation.API{
		Query: query.New(query.Settings{
			DB: p.db, Users: p.accounts, Rooms: p.rooms, Ring: o.ring, Gate: gate, Version: version,
		}),
		History: history.New(history.Settings{DB: p.db, Rooms: p.rooms, Access: may, Gate: gate, Now: time.Now}),
		Spaces:  spaces.New(spaces.Settings{DB: p.db, Rooms: p.rooms, Access: may, Gate: gate}),
		Membership: membership.New(membership.Settings{
			Rooms: p.rooms, Invites: p.rooms, Ring: o.ring, Remote: o.ask, Access: may, Gate: gate, Log: p.log,
			UserExists: p.userExists, InviteByAddress: o.network.InviteByAddress,
		}),
		Intake: intake.New(intake.Settings{
			ToDevice: p.accounts.ReceiveToDevice, Rooms: p.rooms, Ephemeral: p.ephemeral, Ring: o.ring, Access: may,
			Inbox: o.inbox, Gate: gate, Now: time.Now,
		}),
	}
}

func (p *parts) userExists(ctx context.Context, user matrix.UserID) error {
	_, err := p.accounts.Profile(ctx, user)
	return err
}

// permits returns what says to which servers nothing is sent; nil if nothing is to any.
func (o *others) permits() func(matrix.ServerName) error {
	if o == nil {
		return nil
	}
	return o.client.Permits
}

// routes are what other servers call.
func (o *others) routes() []httpapi.API {
	if o == nil {
		return nil
	}
	return []httpapi.API{{Service: config.Federating, Routes: o.api.Routes}}
}

// running is what runs.
func (o *others) running() stage {
	if o == nil {
		return nil
	}
	return stage{o.inbox.Run, o.outbox.Run, o.herald.Run, o.devices.Run, o.network.Run}
}

// collectors are the counts that tell how it goes with other servers.
func (o *others) collectors() []prometheus.Collector {
	if o == nil {
		return nil
	}
	gauge := func(name, help string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "myelin_federation_" + name, Help: help},
			func() float64 { return float64(value()) })
	}
	return append(slices.Concat(keys.Collectors(), intake.Collectors(), inbox.Collectors(), outbox.Collectors()),
		gauge("destinations", "Servers that are owed something, or cannot be reached.",
			func() int { return o.outbox.Counts().Destinations }),
		gauge("failing_destinations", "Servers that did not take the last transaction.",
			func() int { return o.outbox.Counts().Failing }),
		gauge("transactions_under_way", "Transactions that are being sent.",
			func() int { return o.outbox.Counts().UnderWay }),
		gauge("unread_positions", "Positions of the log that were not looked at for other servers yet.",
			func() int { return o.outbox.Counts().Unread }),
		gauge("waiting_rooms", "Rooms for which something waits that other servers have sent.",
			func() int { return o.inbox.Waiting() }),
	)
}
