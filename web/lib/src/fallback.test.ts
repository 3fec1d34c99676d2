import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { StateChange } from "./recovery.ts";
import { created, FakeHls, FakeMediaStream, FakePeer, FakeServer, FakeVideo, refused, restarted } from "./testing.ts";
import { watch, type Viewer, type WatchOptions } from "./watch.ts";

const ENDPOINT = "https://sluice.example/whep/cam1";
const HLS = "https://sluice.example/hls/cam1/index.m3u8";

let viewer: Viewer;
let server: FakeServer;
let video: FakeVideo;
/** Elements that the library made for itself, to look at a stream apart from what is shown. */
let apart: FakeVideo[];
let peers: FakePeer[];
let heard: unknown[];
let load: ReturnType<typeof vi.fn<() => Promise<unknown>>>;

const settle = (ms = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);
const playlists = (): number => server.asked.filter(({ url }) => url.startsWith(HLS)).length;
const sessions = (): number => server.of("POST").length;

function begin(answers = [() => created()], options: Partial<WatchOptions> = {}, hls = (): Response => new Response("#EXTM3U")): void {
  server = new FakeServer(answers);
  server.others = ({ url, method }) => {
    if (url.startsWith(HLS)) return hls();
    return method === "PATCH" ? restarted() : undefined;
  };
  const createPeer = (): RTCPeerConnection => {
    peers.push(new FakePeer());
    return peers.at(-1) as unknown as RTCPeerConnection;
  };
  viewer = watch({
    url: ENDPOINT,
    video: video as unknown as HTMLVideoElement,
    fallback: { hls: HLS, load },
    fetch: server.fetch,
    createPeer,
    reconnect: { random: () => 0.5 },
    ...options,
  });
  viewer.on("state", ({ state, previous, error }: StateChange) => heard.push([previous, state, error?.kind].filter(Boolean).join(" > ")));
  viewer.on("transport", (transport) => heard.push(transport));
  viewer.on("stream", () => heard.push("stream"));
}

/** HLS plays, because WebRTC finds no path. */
async function onHls(options: Partial<WatchOptions> = {}): Promise<FakeHls> {
  begin(undefined, options);
  await settle(4_500);
  const [hls] = FakeHls.made;
  if (!hls) throw new Error("HLS was not begun");
  video.shows();
  heard = [];
  return hls;
}

/** Pictures move meanwhile. */
async function playFor(ms: number): Promise<void> {
  const moves = setInterval(() => (video.currentTime += 1), 500);
  await settle(ms);
  clearInterval(moves);
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("MediaStream", FakeMediaStream);
  vi.stubGlobal("document", {
    createElement: () => {
      apart.push(new FakeVideo());
      return apart.at(-1);
    },
  });
  FakeHls.made = [];
  FakeHls.isSupported = () => true;
  video = new FakeVideo();
  [apart, peers, heard] = [[], [], []];
  load = vi.fn(async () => ({ default: FakeHls }));
});
afterEach(async () => {
  await viewer.close();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("HLS is begun", () => {
  it("when WebRTC finds no path in time, and is told as another way to be connected", async () => {
    begin();
    await settle(3_900);
    expect(load).not.toHaveBeenCalled();
    expect(playlists()).toBe(0);
    await settle(200);
    expect(FakeHls.made).toHaveLength(1);
    expect(FakeHls.made[0]).toMatchObject({ source: HLS, video, config: { enableWorker: false } });
    expect(video.srcObject).toBeNull();
    expect(viewer.transport).toBeNull();
    video.shows();
    expect(heard).toEqual(["connecting > connecting", "stream", "hls", "connecting > connected"]);
    expect(viewer).toMatchObject({ transport: "hls", state: "connected" });
  });

  it("as soon as the page says, and never without a path being looked for first", async () => {
    begin(undefined, { fallback: { hls: HLS, load, afterMs: 1_000 } });
    await settle(1_100);
    expect(FakeHls.made).toHaveLength(1);
    peers[0]?.become("connected");
    await viewer.close();
    FakeHls.made = [];
    begin();
    await settle();
    peers.at(-1)?.become("connected");
    await settle(60_000);
    expect(FakeHls.made).toEqual([]);
    expect(heard).toContain("webrtc");
  });

  it("at once where ICE has failed, where the browser has no WebRTC, and where it lacks the codec", async () => {
    begin();
    await settle();
    peers[0]?.become("failed");
    await settle();
    expect(FakeHls.made).toHaveLength(1);
    await viewer.close();

    begin(undefined, { createPeer: undefined as unknown as () => RTCPeerConnection });
    await settle();
    expect(FakeHls.made).toHaveLength(2);
    video.shows();
    expect(heard.slice(-3)).toEqual(["connecting > failed > unsupported", "hls", "failed > connected"]);
    await viewer.close();

    begin([() => refused(406)]);
    await settle();
    expect(FakeHls.made).toHaveLength(3);
  });

  it("after failures of the server that go on, and after a path that was lost does not come back", async () => {
    begin([() => refused(503)]);
    await settle(4_500);
    expect(FakeHls.made).toHaveLength(1);
    await viewer.close();

    begin();
    await settle();
    peers.at(-1)?.become("connected");
    await settle(60_000);
    peers.at(-1)?.become("disconnected");
    await settle(3_900);
    expect(FakeHls.made).toHaveLength(1);
    await settle(200);
    expect(FakeHls.made).toHaveLength(2);
  });

  it("never after a refusal, nor for a stream that is not live", async () => {
    for (const status of [401, 403, 404, 400, 409]) {
      begin([() => refused(status)]);
      await settle(20_000);
      expect(playlists(), String(status)).toBe(0);
      await viewer.close();
    }
  });

  it("not without a video element, nor unless it was asked for", async () => {
    for (const options of [{ video: null }, { fallback: null }]) {
      begin(undefined, options);
      await settle(20_000);
      expect(playlists()).toBe(0);
      await viewer.close();
    }
  });

  it("by the browser itself where hls.js is not given, cannot be had or does not work", async () => {
    video.plays = "maybe";
    const unsupported = async (): Promise<unknown> => Object.assign(class {}, { isSupported: () => false });
    for (const without of [undefined, async () => Promise.reject(new TypeError("Failed to fetch")), unsupported, async () => ({})]) {
      begin(undefined, { token: "a b", fallback: { hls: HLS, ...(without && { load: without }) } });
      await settle(4_500);
      expect(video.src).toBe(`${HLS}?token=a+b`);
      await viewer.close();
      expect(video.src).toBe("");
    }
    video.plays = "";
    const errors: unknown[] = [];
    begin(undefined, { fallback: { hls: HLS } });
    viewer.on("error", ({ kind }) => errors.push(kind));
    await settle(4_500);
    expect(errors).toEqual(["unsupported"]);
  });

  it("not where the server has none: the picture that stands is left, and it is asked for again later", async () => {
    begin(undefined, {}, () => refused(404));
    await settle(4_500);
    expect(playlists()).toBe(1);
    expect(load).not.toHaveBeenCalled();
    expect(video.srcObject).not.toBeNull();
    const errors: unknown[] = [];
    viewer.on("error", ({ message }) => errors.push(message));
    await settle(60_000);
    expect(playlists()).toBeGreaterThan(2);
    expect(playlists()).toBeLessThan(9);
    expect(errors, "the same is not said again").not.toContain("refused with 404");
  });
});

describe("while HLS plays", () => {
  it("WebRTC is tried again with growing pauses, and nothing is told of it", async () => {
    await onHls();
    const errors: unknown[] = [];
    viewer.on("error", (error) => errors.push(error));
    viewer.on("reconnecting", (event) => errors.push(event));
    const before = sessions();
    await playFor(180_000);
    // After 5, 10, 20, 40 and 60 s, each with 8 s of patience.
    expect(sessions() - before).toBe(5);
    expect([...heard, ...errors]).toEqual([]);
    expect(viewer).toMatchObject({ transport: "hls", state: "connected" });
  });

  it("the token goes along to where the playlist is: in the URL across origins, in the header at home, and to nobody else", async () => {
    const hls = await onHls({ token: "secret" });
    expect(server.asked.find(({ url }) => url === HLS)?.headers.get("authorization")).toBe("Bearer secret");
    const asked: string[] = [];
    const xhr = {
      open: (_method: string, url: string) => asked.push(url),
      setRequestHeader: (name: string, value: string) => asked.push(`${name}: ${value}`),
    };
    await hls.config.xhrSetup(xhr, `${HLS}?_HLS_msn=7`);
    await hls.config.xhrSetup(xhr, "https://cdn.example/other.m3u8");
    await hls.config.xhrSetup(xhr, "https://sluice.example/hls/cam1/media/part.m4s");
    vi.stubGlobal("location", new URL("https://sluice.example/watch/cam1"));
    await hls.config.xhrSetup(xhr, HLS);
    expect(asked).toEqual([
      `${HLS}?_HLS_msn=7&token=secret`,
      "https://cdn.example/other.m3u8",
      "https://sluice.example/hls/cam1/media/part.m4s",
      HLS,
      "Authorization: Bearer secret",
    ]);
  });

  it("WebRTC takes over when it has a picture, and not before", async () => {
    const hls = await onHls();
    await playFor(15_000);
    peers.at(-1)?.become("connected");
    await settle(100);
    expect(hls.destroyed).toBe(false);
    expect(apart).toHaveLength(1);
    apart[0]?.shows();
    await settle(1);
    expect(hls.destroyed).toBe(true);
    expect(video.srcObject).toBe(viewer.stream);
    expect(heard).toEqual(["stream", "webrtc"]);
    expect(viewer.state).toBe("connected");
    await settle(60_000);
    expect(FakeHls.made).toHaveLength(1);
  });

  it("a path that is lost before there was a picture changes nothing", async () => {
    const hls = await onHls();
    await playFor(15_000);
    peers.at(-1)?.become("connected");
    peers.at(-1)?.transportBecomes("closed");
    apart[0]?.shows();
    await playFor(100);
    expect(hls.destroyed).toBe(false);
    expect(heard).toEqual([]);
  });

  it("a refusal ends both, with its reason", async () => {
    begin([() => created(), () => created(), () => refused(403)]);
    await settle(4_500);
    video.shows();
    heard = [];
    await playFor(60_000);
    expect(FakeHls.made[0]?.destroyed).toBe(true);
    expect(heard).toEqual(["connected > failed > forbidden"]);
  });

  it("its end makes the server asked at once, whether the stream is over", async () => {
    begin([() => created(), () => refused(409)]);
    await settle(4_500);
    video.shows();
    await settle(5_000);
    heard = [];
    FakeHls.made[0]?.fails("networkError", false);
    expect(heard).toEqual([]);
    FakeHls.made[0]?.fails();
    await settle();
    expect(heard.at(-1)).toBe("connecting > offline > not-live");
    await settle(20_000);
    expect(FakeHls.made, "nobody publishes").toHaveLength(1);
  });

  it("what does not begin in time is given up, and tried again", async () => {
    begin();
    server.others = ({ url }) => (url === HLS ? new Promise<Response>(() => undefined) : undefined);
    await settle(4_500);
    expect(playlists()).toBe(1);
    await settle(19_000);
    expect(playlists()).toBe(1);
    await settle(4_000);
    expect(playlists()).toBe(2);
    expect(viewer.transport).toBeNull();
  });

  it("a fault of the decoder is mended once, and a standstill is an end", async () => {
    const hls = await onHls();
    hls.fails("mediaError");
    expect([hls.recovered, hls.destroyed]).toEqual([1, false]);
    hls.fails("mediaError");
    expect(hls.destroyed).toBe(true);
    await viewer.close();

    FakeHls.made = [];
    const other = await onHls();
    video.paused = true;
    await settle(20_000);
    expect(other.destroyed, "paused by a person").toBe(false);
    video.paused = false;
    await settle(11_000);
    expect(other.destroyed).toBe(true);
  });
});
