import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Player, type PlayerChange } from "./player";
import { created, FakeMediaStream, FakePeer, fakeServer, refused, type Asked } from "./testing";

let peers: FakePeer[];
let changes: PlayerChange[];
let asked: Asked[];

function player(...answers: (() => Response)[]): Player {
  const server = fakeServer(...answers);
  asked = server.asked;
  return new Player({
    url: "https://sluice.example/whep/cam1",
    fetch: server.fetch,
    createPeer: () => {
      const peer = new FakePeer();
      peers.push(peer);
      return peer as unknown as RTCPeerConnection;
    },
    backoff: { firstMs: 400, random: () => 0.5 },
    onChange: (change) => changes.push(change),
    onSession: () => undefined,
  });
}

const posts = (): number => asked.filter(({ method }) => method === "POST").length;
const settle = (ms = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("MediaStream", FakeMediaStream);
  peers = [];
  changes = [];
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("Player", () => {
  it("waits for a stream that is not live as long as the server says, without growing impatient or slow", async () => {
    const notLive = (): Response => refused(409, { "Retry-After": "1" });
    const it_ = player(notLive, notLive, notLive, () => created());
    it_.start();
    await settle();
    for (let round = 1; round <= 3; round += 1) {
      expect(it_.state).toBe("offline");
      expect(changes.at(-1)).toMatchObject({ retryInMs: 1_000, error: { kind: "not-live" } });
      await settle(1_000);
      expect(posts()).toBe(round + 1);
    }
    peers.at(-1)?.become("connected");
    expect(it_.state).toBe("connected");
    expect(it_.reconnects).toBe(0);
  });

  it("waits for another publisher where this browser cannot decode what is sent", async () => {
    const cannot = (): Response => refused(406);
    const it_ = player(cannot, cannot, () => created());
    it_.start();
    await settle();
    for (let round = 1; round <= 2; round += 1) {
      expect(changes.at(-1)).toMatchObject({ state: "waiting", retryInMs: 5_000, error: { kind: "undecodable" } });
      await settle(5_000);
      expect(posts()).toBe(round + 1);
    }
    peers.at(-1)?.become("connected");
    expect(it_.state).toBe("connected");
  });

  it("comes back after a loss, and counts it", async () => {
    const it_ = player(() => created());
    it_.start();
    await settle();
    peers[0]?.become("connected");
    peers[0]?.transportBecomes("closed");
    expect(changes.at(-1)).toMatchObject({ state: "waiting", lost: "closed-by-server", retryInMs: 400 });
    await settle(400);
    peers[1]?.become("connected");
    expect(it_.state).toBe("connected");
    expect(it_.reconnects).toBe(1);
  });

  it("waits longer after each failure, and starts anew after a session that held", async () => {
    const it_ = player(
      () => refused(503),
      () => refused(503),
      () => created(),
    );
    it_.start();
    await settle();
    expect(changes.at(-1)?.retryInMs).toBe(400);
    await settle(400);
    expect(changes.at(-1)?.retryInMs).toBe(800);
    await settle(800);
    peers.at(-1)?.become("connected");
    await settle(6_000);
    peers.at(-1)?.become("failed");
    expect(changes.at(-1)?.retryInMs).toBe(400);
  });

  it("gives up where waiting does not help, until asked again", async () => {
    const it_ = player(
      () => refused(401),
      () => created(),
    );
    it_.start();
    await settle(60_000);
    expect(posts()).toBe(1);
    expect(changes.at(-1)).toMatchObject({ state: "failed", error: { kind: "unauthorised" } });
    it_.retryNow();
    await settle();
    expect(posts()).toBe(2);
  });

  it("does not obey a server that asks for hours", async () => {
    player(() => refused(503, { "Retry-After": "7200" })).start();
    await settle();
    expect(changes.at(-1)?.retryInMs).toBe(30_000);
  });

  it("stops for good, also while an answer is on its way", async () => {
    const it_ = player(() => created());
    it_.start();
    it_.stop();
    await settle(60_000);
    expect(it_.state).toBe("stopped");
    expect(posts()).toBeLessThanOrEqual(1);
    expect(peers.every(({ closed }) => closed)).toBe(true);
  });

  it("tries at once when told that the network is back", async () => {
    const it_ = player(
      () => refused(503),
      () => created(),
    );
    it_.start();
    await settle();
    it_.retryNow();
    await settle();
    expect(posts()).toBe(2);
    await settle(5_000);
    expect(posts(), "the wait that was cut short leaves no second attempt").toBe(2);
  });
});
