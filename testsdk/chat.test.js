// Two users register, chat, type, send receipts and see each other's presence, all
// through the SDK and its sync: on one server, and on two that share the room.

import "./polyfill.js";

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  ClientEvent, createClient, EventType, Preset, ReceiptType, RoomEvent, RoomMemberEvent, UserEvent,
} from "matrix-js-sdk";
import { startServers } from "./server.js";

// quiet keeps the SDK's own account of its work out of the test's output.
const quiet = { getChild: () => quiet, trace() {}, debug() {}, info() {}, warn() {}, error() {} };
for (const level of ["trace", "debug", "info", "warn", "log"]) console[level] = () => {};

let servers;
const clients = [];

before(async () => { servers = await startServers(2); });
after(async () => {
  for (const client of clients) client.stopClient();
  await servers?.stop();
});

// next waits for an event of an emitter that meets a condition.
function next(emitter, name, condition, what) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${what}: nothing came in 20 seconds`)), 20_000);
    const listener = (...args) => {
      const found = condition(...args);
      if (!found) return;
      clearTimeout(timer);
      emitter.off(name, listener);
      resolve(found === true ? args[0] : found);
    };
    emitter.on(name, listener);
  });
}

// register makes an account through user-interactive authentication and starts to sync.
async function register(name, baseUrl) {
  const guest = createClient({ baseUrl, logger: quiet });
  const session = await guest.registerRequest({ username: name, password: `${name}-secret-password` })
    .then(() => assert.fail("registration without authentication succeeded"), (error) => error.data.session);
  const account = await guest.registerRequest({
    username: name, password: `${name}-secret-password`, auth: { type: "m.login.dummy", session },
  });
  const client = createClient({
    baseUrl, accessToken: account.access_token, userId: account.user_id, deviceId: account.device_id, logger: quiet,
  });
  clients.push(client);
  const ready = next(client, ClientEvent.Sync, (state) => state === "PREPARED", `${name}'s first sync`);
  await client.startClient({ initialSyncLimit: 20, lazyLoadMembers: true });
  await ready;
  return client;
}

const messageFrom = (sender, body) => (event) =>
  event.getType() === EventType.RoomMessage && event.getSender() === sender && event.getContent().body === body && event;

test("two users of one server chat", (t) => chat(t, servers.urls[0], servers.urls[0]));
test("two users of two servers chat", (t) => chat(t, servers.urls[1], servers.urls[0], "2"));

// chat lets alice and bob do all that they can do together.
async function chat(t, alicesServer, bobsServer, suffix = "") {
  const alice = await register(`alice${suffix}`, alicesServer);
  const bob = await register(`bob${suffix}`, bobsServer);
  const aliceID = alice.getUserId();
  const bobID = bob.getUserId();

  let room;
  await t.test("an invitation arrives and is accepted", async () => {
    await alice.setDisplayName("Alice");
    const invited = next(bob, RoomMemberEvent.Membership,
      (_, member) => member.userId === bobID && member.membership === "invite" && member.roomId, "the invitation");
    room = (await alice.createRoom({
      name: "Tea", preset: Preset.PrivateChat, invite: [bobID],
    })).room_id;
    assert.equal(await invited, room);
    const joined = next(alice, RoomMemberEvent.Membership,
      (_, member) => member.userId === bobID && member.membership === "join", "bob's join");
    const seen = next(bob, RoomEvent.MyMembership, (_, membership) => membership === "join", "bob's own join");
    await bob.joinRoom(room);
    await Promise.all([joined, seen]);
    assert.equal(bob.getRoom(room).name, "Tea");
  });

  let hello;
  await t.test("messages arrive in both directions", async () => {
    const atBob = next(bob, RoomEvent.Timeline, messageFrom(aliceID, "hello"), "alice's message");
    await alice.sendTextMessage(room, "hello");
    hello = await atBob;
    assert.equal(bob.getRoom(room).getMember(aliceID).name, "Alice");
    const atAlice = next(alice, RoomEvent.Timeline, messageFrom(bobID, "hi there"), "bob's message");
    await bob.sendTextMessage(room, "hi there");
    await atAlice;
  });

  await t.test("typing is seen to start and to stop", async () => {
    const starts = next(bob, RoomMemberEvent.Typing, (_, m) => m.userId === aliceID && m.typing, "typing");
    await alice.sendTyping(room, true, 10_000);
    await starts;
    const stops = next(bob, RoomMemberEvent.Typing, (_, m) => m.userId === aliceID && !m.typing, "the end of typing");
    await alice.sendTyping(room, false, 0);
    await stops;
  });

  await t.test("receipts are seen", async () => {
    const seen = next(alice, RoomEvent.Receipt, (event) => {
      const readers = event.getContent()[hello.getId()]?.[ReceiptType.Read];
      return readers?.[bobID] !== undefined;
    }, "bob's receipt");
    await bob.sendReadReceipt(hello);
    await seen;
    await bob.setRoomReadMarkers(room, hello.getId(), hello);
  });

  await t.test("presence is seen", async () => {
    const seen = next(alice, UserEvent.Presence,
      (_, user) => user.userId === bobID && user.presence === "unavailable" && user.presenceStatusMsg === "at lunch",
      "bob's presence");
    await bob.setPresence({ presence: "unavailable", status_msg: "at lunch" });
    await seen;
  });

  await t.test("a redaction is seen", async () => {
    const own = alice.getRoom(room).getLiveTimeline().getEvents().find((e) => e.getId() === hello.getId());
    assert.ok(own, "alice holds her own message under the ID the server gave it");
    const seen = next(bob, RoomEvent.Redaction, (event) => event.event.redacts === hello.getId(), "the redaction");
    await alice.redactEvent(room, hello.getId());
    await seen;
  });

  await t.test("history is paged back to the start", async () => {
    const timeline = bob.getRoom(room).getLiveTimeline();
    while (await bob.paginateEventTimeline(timeline, { backwards: true, limit: 3 }));
    const types = timeline.getEvents().map((e) => e.getType());
    assert.ok(types.includes(EventType.RoomCreate), `the room's creation is in ${types}`);
  });

  await t.test("account data and profile changes arrive", async () => {
    const data = next(bob, ClientEvent.AccountData, (event) => event.getType() === "org.example.note", "account data");
    await bob.setAccountDataRaw("org.example.note", { text: "buy tea" });
    assert.equal((await data).getContent().text, "buy tea");
    const renamed = next(alice, RoomMemberEvent.Name, (_, m) => m.userId === bobID && m.name === "Bob", "bob's new name");
    await bob.setDisplayName("Bob");
    await renamed;
  });

  await t.test("leaving is seen, and what comes after is not", async () => {
    const left = next(alice, RoomMemberEvent.Membership, (_, m) => m.userId === bobID && m.membership === "leave", "the leave");
    await bob.leave(room);
    await left;
    await assert.rejects(bob.sendTextMessage(room, "still here"), (error) => error.errcode === "M_FORBIDDEN");
  });
}

test("a new login sees what was there", async () => {
  const baseUrl = servers.urls[0];
  const fresh = createClient({ baseUrl, logger: quiet });
  const account = await fresh.loginRequest({
    type: "m.login.password", identifier: { type: "m.id.user", user: "alice" }, password: "alice-secret-password",
  });
  const client = createClient({
    baseUrl, accessToken: account.access_token, userId: account.user_id, deviceId: account.device_id, logger: quiet,
  });
  clients.push(client);
  const ready = next(client, ClientEvent.Sync, (state) => state === "PREPARED", "the first sync");
  await client.startClient();
  await ready;
  assert.deepEqual(client.getRooms().map((r) => r.name.startsWith("Tea") || r.name), [true]);
  await client.logout(true);
  await assert.rejects(client.whoami(), (error) => error.errcode === "M_UNKNOWN_TOKEN" || error.errcode === "M_MISSING_TOKEN");
});
