import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { StateChange } from "./recovery.ts";
import { created, FakeMediaStream, FakePeer, FakeServer, from, refused, restarted } from "./testing.ts";
import { watch, type Viewer, type ViewerEvents, type WatchOptions } from "./watch.ts";

const ENDPOINT = "https://sluice.example/whep/cam1";
const RESOURCE = `${ENDPOINT}/1`;
let peers: FakePeer[];
let server: FakeServer;
let changes: StateChange[];
let heard: [keyof ViewerEvents, unknown][];
let viewer: Viewer;

function begin(answers: ConstructorParameters<typeof FakeServer>[0], options: Partial<WatchOptions> = {}): Viewer {
  server = new FakeServer(answers);
  viewer = watch({
    url: ENDPOINT,
    fetch: server.fetch,
    createPeer: (configuration) => {
      const peer = new FakePeer(configuration);
      peers.push(peer);
      return peer as unknown as RTCPeerConnection;
    },
    reconnect: { firstMs: 400, random: () => 0.5 },
    ...options,
  });
  viewer.on("state", (change) => changes.push(change));
  for (const type of ["reconnecting", "error"] as const) viewer.on(type, (event) => heard.push([type, event]));
  return viewer;
}

const settle = (ms = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);
const posts = (): number => server.of("POST").length;
const last = (): StateChange | undefined => changes.at(-1);
const events = (type: keyof ViewerEvents): unknown[] => heard.filter(([heardType]) => heardType === type).map(([, event]) => event);

async function connected(answers = [() => created()], options: Partial<WatchOptions> = {}): Promise<FakePeer> {
  begin(answers, options);
  await settle();
  const [peer] = peers;
  if (!peer) throw new Error("no peer was made");
  peer.become("connected");
  return peer;
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("MediaStream", FakeMediaStream);
  peers = [];
  changes = [];
  heard = [];
});
afterEach(async () => {
  await viewer.close();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("opening a session", () => {
  it("posts an offer for audio and video, in stereo and at once, with the token in the header only", async () => {
    const peer = await connected(undefined, { token: "secret" });
    const [post] = server.asked;
    expect(post).toMatchObject({ method: "POST", url: ENDPOINT });
    expect(post?.headers.get("authorization")).toBe("Bearer secret");
    expect(post?.headers.get("content-type")).toBe("application/sdp");
    expect(post?.body).toContain("a=fmtp:111 stereo=1");
    expect(peer.localDescription?.sdp).toBe(post?.body);
    expect(peer.transceivers.map(({ kind, direction }) => [kind, direction])).toEqual([
      ["video", "recvonly"],
      ["audio", "recvonly"],
    ]);
    expect(peer.transceivers.every(({ receiver }) => receiver["jitterBufferTarget"] === 0)).toBe(true);
    expect(viewer.session?.resource).toBe(RESOURCE);
    expect(viewer.state).toBe("connected");
  });

  it("asks where a redirection led, with the token that the browser took away on the way", async () => {
    const node = "https://node2.example/whep/cam1";
    begin([() => from(node, refused(401)), () => created()], { token: "secret" });
    await settle();
    expect(server.of("POST").map(({ url }) => url)).toEqual([ENDPOINT, node]);
    expect(server.of("POST")[1]?.headers.get("authorization")).toBe("Bearer secret");
  });

  it("resolves the session's URL against where the answer came from", async () => {
    begin([() => from("https://node2.example/whep/cam1", created())]);
    await settle();
    expect(viewer.session?.resource).toBe("https://node2.example/whep/cam1/1");
  });

  it("gives no token to a redirection out of https", async () => {
    begin([() => from("http://node2.example/whep/cam1", refused(401))], { token: "secret" });
    await settle();
    expect(posts()).toBe(1);
    expect(last()).toMatchObject({ state: "failed", error: { kind: "unauthorised" } });
  });

  it("refuses an answer whose session could not be ended", async () => {
    begin([() => new Response("v=0", { status: 201 })]);
    await settle();
    expect(last()).toMatchObject({ state: "failed", error: { kind: "protocol" } });
    expect(peers[0]?.closed).toBe(true);
  });

  it("ends a session whose answer the browser does not take", async () => {
    begin([() => created()]);
    await settle(0);
    await viewer.close();
    peers = [];
    begin([() => created()], {
      createPeer: () => {
        const peer = new FakePeer();
        peer.setRemoteDescription = () => Promise.reject(new Error("bad answer"));
        return peer as unknown as RTCPeerConnection;
      },
    });
    await settle();
    expect(server.asked.at(-1)).toMatchObject({ method: "DELETE", url: RESOURCE });
    expect(last()).toMatchObject({ state: "failed", error: { message: "bad answer" } });
  });

  it("answers the server's own offer by PATCH, on a connection that has offered nothing", async () => {
    const headers = { "Content-Type": "application/sdp", Location: "/whep/cam1/1", ETag: '"first"' };
    begin([() => new Response("v=0 the server's offer", { status: 406, headers })]);
    await settle();
    expect(peers).toHaveLength(2);
    expect(peers[0]?.closed).toBe(true);
    expect(peers[1]?.transceivers).toEqual([]);
    expect(peers[1]?.remoteDescription).toMatchObject({ type: "offer", sdp: "v=0 the server's offer" });
    const [patch] = server.of("PATCH");
    expect(patch).toMatchObject({ url: RESOURCE, body: peers[1]?.localDescription?.sdp });
    expect(patch?.headers.get("content-type")).toBe("application/sdp");
    expect(patch?.body).toContain("stereo=1");
    peers[1]?.become("connected");
    expect(viewer.state).toBe("connected");
  });

  it("turns a counter-offer down that this browser cannot decode, and waits for another publisher", async () => {
    const headers = { "Content-Type": "application/sdp", Location: "/whep/cam1/1" };
    const offer = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 H265/90000\r\na=rtpmap:97 rtx/90000\r\n";
    begin([() => new Response(offer, { status: 406, headers }), () => created()], {
      createPeer: (configuration) => {
        const peer = new FakePeer(configuration);
        peer.ownAnswer = "v=0\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\n";
        peers.push(peer);
        return peer as unknown as RTCPeerConnection;
      },
    });
    await settle();
    expect(last()).toMatchObject({ state: "waiting", retryInMs: 5_000, error: { kind: "undecodable" } });
    expect(last()?.error?.message).toContain("H265");
    expect(server.of("PATCH")).toEqual([]);
    expect(server.of("DELETE")).toHaveLength(1);
  });
});

it("says that it cannot decode the stream when the server does not take its answer either", async () => {
  const headers = { "Content-Type": "application/sdp", Location: "/whep/cam1/1" };
  begin([() => new Response("v=0 the server's offer", { status: 406, headers })]);
  server.others = ({ method }) => (method === "PATCH" ? refused(422) : undefined);
  await settle();
  expect(last()).toMatchObject({ state: "waiting", error: { kind: "undecodable", message: "refused with 422" } });
  expect(server.asked.at(-1)?.method).toBe("DELETE");
});

describe("candidates", () => {
  it("are sent together once the session is known, with its ETag", async () => {
    let answer: (response: Response) => void = () => undefined;
    begin([() => new Promise((resolve) => (answer = resolve))]);
    await settle();
    peers[0]?.gathers("candidate:1 1 udp 1 192.0.2.1 1 typ host");
    peers[0]?.gathers("candidate:2 1 udp 1 192.0.2.2 1 typ host");
    answer(created());
    await settle();
    peers[0]?.gathers(null);
    await settle();
    const [patch, ...more] = server.of("PATCH");
    expect(more).toEqual([]);
    expect(patch?.url).toBe(RESOURCE);
    expect(patch?.headers.get("if-match")).toBe('"first"');
    expect(patch?.headers.get("content-type")).toBe("application/trickle-ice-sdpfrag");
    expect(patch?.body).toContain(
      "a=ice-ufrag:own0\r\na=ice-pwd:own-password-0\r\na=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\na=candidate:2",
    );
    expect(patch?.body).toContain("a=end-of-candidates");
  });

  it("are not sent where that was not wanted; a server that refuses them costs nothing", async () => {
    const peer = await connected(undefined, { trickle: false });
    peer.gathers(null);
    await settle();
    expect(server.of("PATCH")).toEqual([]);
    await viewer.close();
    const other = (begin([() => created()]), await settle(), peers.at(-1));
    server.others = ({ method }) => (method === "PATCH" ? refused(405) : undefined);
    other?.become("connected");
    other?.gathers(null);
    await settle(10_000);
    expect(viewer.state).toBe("connected");
  });
});

describe("an interrupted session", () => {
  it("restarts ICE with If-Match: *, takes the new credentials, and trickles under the new ETag", async () => {
    const peer = await connected();
    server.others = ({ method, headers }) =>
      method === "PATCH" && headers.get("if-match") === "*" ? restarted() : undefined;
    peer.become("disconnected");
    await settle();
    expect(viewer.state).toBe("interrupted");
    expect(events("reconnecting")).toMatchObject([{ by: "ice-restart", lost: "network" }]);
    const [patch] = server.of("PATCH");
    expect(patch?.body).toContain("a=ice-ufrag:own1");
    expect(patch?.body).toContain("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n");
    expect(peer.localDescription?.sdp).toContain("stereo=1");
    expect(peer.remoteDescription).toMatchObject({ type: "answer" });
    expect(peer.remoteDescription?.sdp).toContain("a=ice-ufrag:again");
    expect(peer.remoteDescription?.sdp).not.toContain("theirs");
    peer.gathers("candidate:9 1 udp 1 192.0.2.9 1 typ host");
    peer.gathers(null);
    await settle();
    expect(server.of("PATCH")[1]?.headers.get("if-match")).toBe('"second"');
    peer.become("connected");
    expect(viewer.state).toBe("connected");
    await settle(60_000);
    expect(posts()).toBe(1);
    expect(viewer.reconnects, "it was one session all the time").toBe(0);
  });

  it("asks again while the network is away, and is given up after some seconds", async () => {
    const peer = await connected();
    server.others = ({ method }) => (method === "PATCH" ? Promise.reject(new TypeError("Failed to fetch")) : undefined);
    peer.become("disconnected");
    await settle(5_900);
    expect(server.of("PATCH").length).toBeGreaterThan(5);
    expect(viewer.state).toBe("interrupted");
    await settle(100);
    expect(last()).toMatchObject({ state: "waiting", lost: "network" });
    await settle(400);
    expect(posts()).toBe(2);
  });

  it.each([
    [404, "the server knows it no more"],
    [405, "the server has no restarts"],
    [412, "the server does not take this one"],
    [422, "the server has no restarts"],
  ])("is followed by another one at once when the answer is %i: %s", async (status) => {
    const peer = await connected();
    server.others = ({ method }) => (method === "PATCH" ? refused(status) : undefined);
    peer.become("disconnected");
    await settle();
    expect(last()).toMatchObject({ state: "waiting", lost: "network" });
    expect(peer.closed).toBe(true);
    await settle(400);
    expect(posts()).toBe(2);
  });

  it("waits as long as a busy server wishes", async () => {
    const peer = await connected();
    server.others = ({ method }) => (method === "PATCH" ? refused(429, { "Retry-After": "2" }) : undefined);
    peer.become("disconnected");
    await settle(1_900);
    expect(server.of("PATCH")).toHaveLength(1);
    await settle(200);
    expect(server.of("PATCH")).toHaveLength(2);
  });

  it("plays on when a server refuses to restart a session that is well", async () => {
    const peer = await connected();
    server.others = ({ method }) => (method === "PATCH" ? refused(422) : undefined);
    viewer.restartIce();
    await settle();
    expect(peer.signalingState).toBe("stable");
    expect(viewer.state).toBe("connected");
    viewer.restartIce();
    await settle(10_000);
    expect(server.of("PATCH"), "it is not asked again").toHaveLength(1);
  });

  it("restarts once more for what happened during a restart", async () => {
    const peer = await connected();
    const answers: ((response: Response) => void)[] = [];
    server.others = ({ method }) => (method === "PATCH" ? new Promise((resolve) => answers.push(resolve)) : undefined);
    for (let at = 0; at < 5; at += 1) viewer.restartIce();
    await settle();
    expect(answers).toHaveLength(1);
    answers[0]?.(restarted());
    await settle();
    expect(answers).toHaveLength(2);
    answers[1]?.(restarted('"third"'));
    await settle();
    expect(server.of("PATCH")[1]?.body).toContain("a=ice-ufrag:own2");
    expect(peer.signalingState).toBe("stable");
  });

  it("looks for another path when the browser says that the network is back", async () => {
    const page = new EventTarget();
    vi.stubGlobal("addEventListener", page.addEventListener.bind(page));
    await connected();
    server.others = ({ method }) => (method === "PATCH" ? restarted() : undefined);
    page.dispatchEvent(new Event("online"));
    await settle();
    expect(server.of("PATCH")[0]?.headers.get("if-match")).toBe("*");
  });
});

describe("the server's STUN and TURN servers", () => {
  const Link = '<turn:turn.example?transport=tcp>; rel="ice-server"; username="u"; credential="c"';
  const servers = [{ urls: "turn:turn.example?transport=tcp", username: "u", credential: "c" }];

  it("are used by a restart when no direct path comes up", async () => {
    begin([() => created({ Link })]);
    await settle();
    expect(peers[0]?.configuration.iceServers).toEqual(servers);
    server.others = ({ method }) => (method === "PATCH" ? restarted() : undefined);
    await settle(1_000);
    expect(server.of("PATCH")).toHaveLength(1);
    await settle(7_900);
    expect(viewer.state).toBe("connecting");
    peers[0]?.become("connected");
    expect(viewer.state).toBe("connected");
  });

  it("are used at once where nothing else may be", async () => {
    begin([() => created({ Link })], { configuration: { iceTransportPolicy: "relay" } });
    server.others = ({ method }) => (method === "PATCH" ? restarted() : undefined);
    await settle();
    await settle();
    expect(server.of("PATCH")[0]?.headers.get("if-match")).toBe("*");
  });

  it("cost a session with a direct path nothing, and do not count beside one's own", async () => {
    await connected([() => created({ Link })]);
    await settle(10_000);
    expect(server.of("PATCH")).toEqual([]);
    await viewer.close();
    const own = [{ urls: "stun:own.example" }];
    begin([() => created({ Link })], { configuration: { iceServers: own } });
    await settle();
    expect(peers.at(-1)?.configuration.iceServers).toEqual(own);
  });
});

describe("coming back", () => {
  it("waits for a stream that is not live as long as the server says, without growing impatient or slow", async () => {
    const notLive = (): Response => refused(409, { "Retry-After": "1" });
    begin([notLive, notLive, notLive, () => created()]);
    await settle();
    for (let round = 1; round <= 3; round += 1) {
      expect(last()).toMatchObject({ state: "offline", retryInMs: 1_000, error: { kind: "not-live" } });
      await settle(1_000);
      expect(posts()).toBe(round + 1);
    }
    peers.at(-1)?.become("connected");
    expect(viewer.state).toBe("connected");
    expect(viewer.reconnects).toBe(0);
    expect(events("reconnecting"), "nothing is wrong").toEqual([]);
  });

  it("opens another session after a loss, counts it, and says why", async () => {
    const peer = await connected();
    peer.transportBecomes("closed");
    await settle();
    expect(last()).toMatchObject({ state: "waiting", lost: "closed-by-server", retryInMs: 400 });
    expect(events("reconnecting")).toMatchObject([{ by: "new-session", lost: "closed-by-server", inMs: 400 }]);
    expect(server.of("DELETE"), "there is nothing left to end").toEqual([]);
    await settle(400);
    peers[1]?.become("connected");
    expect(viewer.reconnects).toBe(1);
    expect(viewer.stream).not.toBeNull();
  });

  it("waits longer after each failure, and starts anew after a session that held", async () => {
    begin([() => refused(503), () => refused(503), () => created()]);
    await settle();
    expect(last()?.retryInMs).toBe(400);
    await settle(400);
    expect(last()?.retryInMs).toBe(800);
    await settle(800);
    peers.at(-1)?.become("connected");
    await settle(6_000);
    peers.at(-1)?.transportBecomes("failed");
    expect(last()).toMatchObject({ retryInMs: 400, lost: "transport-failed" });
  });

  it("does not wait for ever for a media path that is blocked", async () => {
    begin([() => created()]);
    await settle(8_000);
    expect(last()).toMatchObject({ state: "waiting", lost: "unreachable" });
    expect(server.of("DELETE")).toHaveLength(1);
  });

  it("gives up where waiting does not help, with the server's words, until asked again", async () => {
    begin([() => refused(403), () => created()]);
    await settle(60_000);
    expect(posts()).toBe(1);
    expect(last()).toMatchObject({ state: "failed", error: { kind: "forbidden", message: "refused with 403" } });
    expect(events("error")).toMatchObject([{ problem: { status: 403, detail: "refused with 403" } }]);
    viewer.retryNow();
    await settle();
    expect(posts()).toBe(2);
  });

  it("gives up after as many failures in a row as were asked for", async () => {
    begin([() => refused(503)], { reconnect: { firstMs: 100, attemptsMax: 3, random: () => 0.5 } });
    await settle(60_000);
    expect(posts()).toBe(4);
    expect(last()).toMatchObject({ state: "failed", error: { kind: "unavailable" } });
  });

  it("does not obey a server that asks for hours", async () => {
    begin([() => refused(503, { "Retry-After": "7200" })]);
    await settle();
    expect(last()?.retryInMs).toBe(30_000);
  });

  it("tries at once when told so, and only once", async () => {
    begin([() => refused(503), () => created()]);
    await settle();
    viewer.retryNow();
    await settle(5_000);
    expect(posts(), "the wait that was cut short leaves no second attempt").toBe(2);
  });
});

describe("closing", () => {
  it("ends the session on the server once, in a request that outlives the page, before the connection", async () => {
    const peer = await connected(undefined, { token: "secret" });
    let answer: (response: Response) => void = () => undefined;
    server.others = ({ method }) => (method === "DELETE" ? new Promise((resolve) => (answer = resolve)) : undefined);
    const closed = viewer.close();
    void viewer.close();
    await settle();
    const [deletion, ...more] = server.of("DELETE");
    expect(more).toEqual([]);
    expect(deletion).toMatchObject({ url: RESOURCE, keepalive: true });
    expect(deletion?.headers.get("authorization")).toBe("Bearer secret");
    expect(peer.closed, "the DELETE goes first").toBe(false);
    answer(new Response());
    await closed;
    expect(peer.closed).toBe(true);
    expect(viewer.state).toBe("closed");
  });

  it("closes the connection of a server that does not answer the DELETE", async () => {
    const peer = await connected();
    server.others = ({ method }) => (method === "DELETE" ? new Promise(() => undefined) : undefined);
    void viewer.close();
    await settle(1_000);
    expect(peer.closed).toBe(true);
    server.others = () => undefined;
    viewer = begin([() => refused(403)]);
  });

  it("leaves nothing behind of a session whose answer is on its way", async () => {
    begin([() => created()]);
    await Promise.resolve();
    await viewer.close();
    await settle(60_000);
    expect(viewer.state).toBe("closed");
    expect(posts()).toBeLessThanOrEqual(1);
    expect(peers.every(({ closed }) => closed)).toBe(true);
  });
});
