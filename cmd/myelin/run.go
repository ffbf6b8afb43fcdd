package main

import (
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"time"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/bus"
	"github.com/myelin-chat/myelin/clientapi"
	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/federation/network"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/syncapi"
)

// parts are all parts of a server, joined.
type parts struct {
	config    config.Config
	log       *slog.Logger
	key       signing.Key
	wake      *waker
	bus       *bus.Bus
	db        *storage.DB
	accounts  *accounts.Accounts
	ephemeral *ephemeral.Server
	others    *others // nil: the server keeps to itself
	rooms     *roomserver.Server
	sync      *syncapi.API
	clients   *clientapi.API
	listening *httpapi.Listening
	control   *controlServer

	closers []func() // in the order of opening
}

// build makes the parts from the bottom up and joins them. Nothing runs yet, but the ports are open, so that a port
// that is taken is told at once.
func build(ctx context.Context, c config.Config, log *slog.Logger) (_ *parts, err error) {
	p := &parts{config: c, log: log, wake: newWaker()}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	for _, step := range []func(context.Context) error{
		p.openData, p.openBus, p.openNetwork, p.makeServers, p.joinNetwork, p.openPorts,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// openData takes the data directory: whoever has the database open has the directory.
func (p *parts) openData(ctx context.Context) (err error) {
	if err := openDataDir(p.config.DataDir); err != nil {
		return err
	}
	p.db, err = storage.Open(ctx, storage.Settings{
		URL: string(p.config.Database), DataDir: p.config.DataDir, ServerName: p.config.ServerName,
		Waker: p.wake, Log: p.log,
	})
	if err != nil {
		return err
	}
	p.onClose(func() {
		if err := p.db.Close(); err != nil {
			p.log.Error("the database was not closed cleanly", "cause", err)
		}
	})
	key, made, err := signingKey(p.config.SigningKey)
	if made && err == nil {
		p.log.Info("made a signing key", "file", p.config.SigningKey, "key", key.ID())
	}
	p.key = key
	return err
}

// openBus comes once the data directory is ours: a second server on it must not begin to listen to the first one.
func (p *parts) openBus(context.Context) (err error) {
	p.bus, err = bus.Start(bus.Settings{URL: string(p.config.NATS), Name: string(p.config.ServerName), Log: p.log})
	if err == nil {
		p.onClose(p.bus.Close)
	}
	return err
}

// makeServers makes what works on the database. They share it and know of each other what Settings name, no more.
func (p *parts) makeServers(context.Context) (err error) {
	if p.accounts, err = openAccounts(p.config, p.db, p.others.permits()); err != nil {
		return err
	}
	p.ephemeral, err = ephemeral.New(ephemeral.Settings{Bus: p.bus, Now: time.Now, Boot: rand.Text(), Log: p.log})
	if err != nil {
		return err
	}
	p.onClose(p.ephemeral.Close)
	settings := roomserver.Settings{
		DB: p.db, ServerName: p.config.ServerName, Key: p.key, Profiles: p.accounts,
		DefaultVersion: p.config.DefaultRoomVersion, Now: time.Now, Rand: rand.Reader, Log: p.log,
	}
	if p.others != nil {
		settings.Remote = network.NewRooms(p.others.ask)
	}
	p.rooms = roomserver.New(settings)
	return nil
}

// openPorts makes what the world calls, and opens the ports last: whoever can connect finds all of it.
func (p *parts) openPorts(context.Context) error {
	limits := httpapi.NewLimits(p.config.RateLimits, time.Now)
	p.sync = syncapi.New(syncapi.Settings{
		DB: p.db, Rooms: p.rooms, Accounts: p.accounts, Ephemeral: p.ephemeral, Auth: p.accounts, Limit: limits.Sync,
		Now: time.Now, Log: p.log,
	})
	// Subscribed before anything runs, so that the first commit is heard of.
	stop, err := onMoved(p.bus, p.sync.Wake)
	if err != nil {
		return err
	}
	p.onClose(stop)
	settings := clientapi.Settings{
		DB: p.db, Accounts: p.accounts, Rooms: p.rooms, Ephemeral: p.ephemeral, Limits: limits,
		DefaultRoomVersion: p.config.DefaultRoomVersion, WellKnown: clientapi.WellKnown(p.config.WellKnown),
		TURN: clientapi.TURN{
			URIs: p.config.TURN.URIs, Secret: string(p.config.TURN.SharedSecret),
			Lifetime: time.Duration(p.config.TURN.LifetimeSeconds) * time.Second,
		},
		Now: time.Now, Log: p.log,
	}
	if p.others != nil {
		settings.Network = p.others.network
	}
	p.clients = clientapi.New(settings)
	server := httpapi.New(httpapi.Settings{
		APIs: append([]httpapi.API{
			{Service: config.Client, Routes: p.clients.Routes},
			{Service: config.Client, Routes: p.sync.Routes},
			{Service: config.Admin, Routes: p.clients.AdminRoutes},
		}, p.others.routes()...),
		TrustedProxies: p.config.Proxies(), Ready: p.ready, Metrics: p.metrics(), Log: p.log,
	})
	if p.listening, err = server.Listen(p.config.Listen); err != nil {
		return err
	}
	p.onClose(p.listening.Close)
	if p.control, err = listenControl(p.config.DataDir, operator{p.config, p.db, p.accounts}); err != nil {
		return err
	}
	p.onClose(func() { _ = os.Remove(controlPath(p.config.DataDir)) }) // the next server would remove it too
	return nil
}

// run runs the parts until ctx ends: first the doors close, then what stands behind them, the database last.
func (p *parts) run(ctx context.Context) error {
	// The waker stops with the database, whose last commits it still has to tell of.
	wake := func(ctx context.Context) error { return p.wake.run(ctx, p.bus) }
	return runStages(ctx,
		stage{p.listening.Run, p.control.Run},
		append(stage{p.sync.Run, p.clients.Run, p.ephemeral.Run, p.accounts.Run, p.rooms.Run}, p.others.running()...),
		stage{p.db.Run, wake},
	)
}

// inhabited says whether there is an account.
func (p *parts) inhabited(ctx context.Context) (bool, error) {
	some, err := p.accounts.Users(ctx, "", 1)
	return len(some) > 0, err
}

// ready says whether the database answers. That it does not is no reason to end the process: it may come back.
func (p *parts) ready(ctx context.Context) error {
	_, _, err := storage.One[int64](ctx, p.db, `SELECT 1`)
	return err
}

// onClose notes how to close what was opened, also for the case that a later part cannot be.
func (p *parts) onClose(f func()) { p.closers = append(p.closers, f) }

// close closes what build opened, the last first, as later parts stand on earlier ones.
func (p *parts) close() {
	for i := len(p.closers) - 1; i >= 0; i-- {
		p.closers[i]()
	}
}
