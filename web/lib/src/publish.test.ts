import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { publish, type Publisher, type PublishOptions } from "./publish.ts";
import type { StateChange } from "./recovery.ts";
import { created, FakePeer, FakeServer, refused } from "./testing.ts";

const ENDPOINT = "https://sluice.example/whip/cam1";
const track = (kind: string): object => ({ kind, getSettings: () => ({ height: 720 }) });
const media = {
  getVideoTracks: () => [track("video")],
  getAudioTracks: () => [track("audio")],
} as unknown as MediaStream;

let publisher: Publisher;
let server: FakeServer;
let peers: FakePeer[];
let changes: StateChange[];
const settle = (ms = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

async function begin(options: Partial<PublishOptions> = {}, answers = [() => created()]): Promise<void> {
  server = new FakeServer(answers);
  publisher = publish({
    url: ENDPOINT,
    media,
    fetch: server.fetch,
    createPeer: () => {
      const peer = new FakePeer();
      const add = peer.addTransceiver.bind(peer);
      peer.addTransceiver = (of, init) => Object.assign(add(of, init), { sender: { getParameters: () => ({}) } });
      peers.push(peer);
      return peer as unknown as RTCPeerConnection;
    },
    reconnect: { random: () => 0.5 },
    ...options,
  });
  publisher.on("state", (change) => changes.push(change));
  await settle();
  peers.at(-1)?.become("connected");
}

beforeEach(() => {
  vi.useFakeTimers();
  peers = [];
  changes = [];
});
afterEach(async () => {
  await publisher.close();
  vi.useRealTimers();
});

describe("publishing", () => {
  it("offers one video and one audio track, in stereo, within the limits", async () => {
    await begin({ videoKbps: 2_000, maxFps: 30 });
    expect(publisher.state).toBe("connected");
    expect(server.asked[0]).toMatchObject({ method: "POST", url: ENDPOINT });
    expect(server.asked[0]?.body).toContain("sprop-stereo=1");
    expect(peers[0]?.transceivers).toMatchObject([
      { kind: "video", direction: "sendonly", sendEncodings: [{ maxBitrate: 2_000_000, maxFramerate: 30 }] },
      { kind: "audio", direction: "sendonly", sendEncodings: [{ maxBitrate: 128_000 }] },
    ]);
  });

  it("offers several sizes when asked to", async () => {
    await begin({ simulcast: true });
    expect(peers[0]?.transceivers[0]).toMatchObject({ sendEncodings: [{ rid: "l" }, { rid: "m" }, { rid: "h" }] });
  });

  it("says so when there is nothing to publish", async () => {
    const none = { getVideoTracks: () => [], getAudioTracks: () => [] } as unknown as MediaStream;
    await begin({ media: none });
    expect(changes.at(-1)).toMatchObject({ state: "failed", error: { kind: "refused" } });
    await expect(publisher.replaceTrack(track("video") as MediaStreamTrack)).rejects.toMatchObject({ kind: "refused" });
  });
});

describe("a publisher whose session the server ended", () => {
  it.each([
    [204, "failed"],
    [405, "failed"],
    [503, "waiting"],
  ])("asks the endpoint: after %i it is %s", async (status, state) => {
    await begin();
    server.others = ({ method }) => (method === "HEAD" ? new Response(null, { status }) : undefined);
    peers[0]?.transportBecomes("closed");
    expect(publisher.state, "while it asks").toBe("waiting");
    await settle();
    expect(publisher.state).toBe(state);
    expect(server.of("HEAD")).toMatchObject([{ url: ENDPOINT }]);
    if (state === "failed") expect(changes.at(-1)?.error?.kind).toBe("ended");
    await settle(1_000);
    expect(server.of("POST")).toHaveLength(state === "failed" ? 1 : 2);
  });

  it("comes back to a server that is gone", async () => {
    await begin();
    server.others = ({ method }) => (method === "HEAD" ? Promise.reject(new TypeError("Failed to fetch")) : undefined);
    peers[0]?.transportBecomes("closed");
    await settle(400);
    peers.at(-1)?.become("connected");
    expect(publisher).toMatchObject({ state: "connected", reconnects: 1 });
  });
});

describe("a stream that has a publisher", () => {
  it("is not waited for at first, unless the server says for how long", async () => {
    await begin({}, [() => refused(409)]);
    expect(publisher.state).toBe("failed");
    await publisher.close();
    changes = [];
    await begin({}, [() => refused(409, { "Retry-After": "3" }), () => created()]);
    expect(changes.at(-1)).toMatchObject({ state: "waiting", retryInMs: 3_000, error: { kind: "conflict" } });
  });

  it("may be one's own, not missed yet, when one comes back", async () => {
    await begin({}, [() => created(), () => refused(409), () => created()]);
    peers[0]?.transportBecomes("failed");
    await settle(400);
    expect(changes.at(-1)).toMatchObject({ state: "waiting", error: { kind: "conflict" } });
    await settle(800);
    peers.at(-1)?.become("connected");
    expect(publisher.state).toBe("connected");
  });
});
