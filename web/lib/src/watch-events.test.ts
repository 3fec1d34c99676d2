import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { EVENTS_RELATION, LAYER_RELATION } from "./link.ts";
import { created, FakeMediaStream, FakePeer, FakeServer, refused } from "./testing.ts";
import { watch, type Viewer, type WatchOptions } from "./watch.ts";

const ENDPOINT = "https://sluice.example/whep/cam1";
const EVENTS = `${ENDPOINT}/1/events`;
const STREAM = `${EVENTS}/7`;
const Link =
  `</whep/cam1/1/events>; rel="${EVENTS_RELATION}"; events="active,inactive,layers,viewercount,reconnect", ` +
  `</whep/cam1/1/layer>; rel="${LAYER_RELATION}"`;

let viewer: Viewer;
let server: FakeServer;
/** Writes into the newest event stream; ends it. */
let say: (text: string) => void;
let hangUp: () => void;

function eventStream(signal: AbortSignal | null): Response {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      say = (text) => controller.enqueue(new TextEncoder().encode(text));
      hangUp = () => controller.close();
      signal?.addEventListener("abort", () => controller.error(signal.reason));
    },
  });
  return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
}

async function begin(prepare: (viewer: Viewer) => void, options: Partial<WatchOptions> = {}): Promise<void> {
  server = new FakeServer([() => created({ Link })]);
  server.others = ({ method, url, signal }) => {
    if (method === "POST" && url === EVENTS) return new Response(null, { status: 201, headers: { Location: STREAM } });
    if (method === "GET" && url === STREAM) return eventStream(signal);
    if (method === "POST" && url.endsWith("/layer")) return new Response(null, { status: 200 });
    return undefined;
  };
  const createPeer = (): RTCPeerConnection => new FakePeer() as unknown as RTCPeerConnection;
  viewer = watch({ url: ENDPOINT, fetch: server.fetch, createPeer, reconnect: { random: () => 0.5 }, ...options });
  prepare(viewer);
  await settle();
  (viewer.session?.pc as unknown as FakePeer | undefined)?.become("connected");
}

const settle = (ms = 1): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);
const posted = (url: string): unknown[] =>
  server.of("POST").filter((asked) => asked.url === url).map(({ body }) => JSON.parse(body) as unknown);

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("MediaStream", FakeMediaStream);
});
afterEach(async () => {
  await viewer.close();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("events", () => {
  it("are asked for by type, as far as somebody listens, and told as they come", async () => {
    const heard: unknown[] = [];
    await begin((of) => {
      of.on("viewercount", (viewers) => heard.push(viewers));
      of.on("active", () => heard.push("active"));
    });
    expect(posted(EVENTS)).toEqual([["active", "viewercount", "reconnect"]]);
    say("event: active\ndata: {}\n\nevent: viewerc");
    say('ount\ndata: {"viewercount":3}\n\n: still here\n\n');
    await settle();
    expect(heard).toEqual(["active", 3]);
    expect(viewer).toMatchObject({ active: true, viewerCount: 3 });
  });

  it("cost no request where nobody listens, and are let go of when nobody does any more", async () => {
    await begin(() => undefined);
    expect(posted(EVENTS)).toEqual([]);
    const stop = viewer.on("active", () => undefined);
    await settle();
    expect(posted(EVENTS)).toEqual([["active", "reconnect"]]);
    const [get] = server.of("GET");
    stop();
    expect(get?.signal?.aborted).toBe(true);
  });

  it("are asked for again when their stream ends, anew when it is gone, and not for ever", async () => {
    await begin((of) => of.on("active", () => undefined));
    hangUp();
    await settle(600);
    expect(server.of("GET")).toHaveLength(2);
    expect(posted(EVENTS)).toHaveLength(1);
    const { others } = server;
    server.others = (asked) => (asked.method === "GET" ? refused(404) : others(asked));
    hangUp();
    await settle(1_300);
    expect(server.of("GET")).toHaveLength(3);
    server.others = (asked) => (asked.url === EVENTS ? refused(400) : others(asked));
    await settle(5_000);
    expect(posted(EVENTS)).toHaveLength(2);
    await settle(120_000);
    expect(posted(EVENTS)).toHaveLength(2);
  });

  it("send a viewer elsewhere", async () => {
    await begin((of) => of.on("active", () => undefined));
    say('event: reconnect\ndata: {"url":"https://node2.example/whep/cam1"}\n\n');
    await settle(1_000);
    expect(server.of("DELETE").map(({ url }) => url)).toEqual([`${ENDPOINT}/1`]);
    expect(server.of("POST").at(-1)?.url ?? "").toMatch(/^https:\/\/(node2|sluice)/);
    expect(server.of("POST").some(({ url }) => url === "https://node2.example/whep/cam1")).toBe(true);
  });

  it("send a viewer elsewhere whose session the server has just ended", async () => {
    await begin((of) => of.on("active", () => undefined));
    (viewer.session?.pc as unknown as FakePeer).transportBecomes("closed");
    expect(viewer.state).toBe("waiting");
    say('event: reconnect\ndata: {"url":"https://node2.example/whep/cam1"}\n\n');
    await settle(1_000);
    expect(server.of("POST").filter(({ url }) => url.endsWith("/cam1")).map(({ url }) => url)).toEqual([
      ENDPOINT,
      "https://node2.example/whep/cam1",
    ]);
    expect(server.of("GET")[0]?.signal?.aborted, "that session's events are over").toBe(true);
  });

  it("do not send a viewer to what is no place for it", async () => {
    await begin((of) => of.on("active", () => undefined));
    say('event: reconnect\ndata: {"url":"http://clear.example/whep/cam1"}\n\n');
    await settle(1_000);
    expect(server.of("POST").every(({ url }) => url.startsWith("https://sluice.example/"))).toBe(true);
    expect(server.of("POST").filter(({ url }) => url === ENDPOINT)).toHaveLength(2);
  });
});

describe("layers", () => {
  it("are chosen by POST, and again in the next session", async () => {
    await begin(() => undefined);
    expect(viewer.canSetLayer).toBe(true);
    await viewer.setLayer({ mediaId: "0", rid: "m" });
    expect(posted(`${ENDPOINT}/1/layer`)).toEqual([{ mediaId: "0", rid: "m" }]);
    (viewer.session?.pc as unknown as FakePeer).transportBecomes("closed");
    await settle(1_000);
    expect(posted(`${ENDPOINT}/1/layer`)).toEqual([
      { mediaId: "0", rid: "m" },
      { mediaId: "0", rid: "m" },
    ]);
    await viewer.setLayer(null);
    expect(posted(`${ENDPOINT}/1/layer`).at(-1)).toEqual({});
  });

  it("that the server refuses are not remembered, and its words are thrown", async () => {
    await begin(() => undefined);
    server.others = ({ url }) => (url.endsWith("/layer") ? refused(422) : undefined);
    await expect(viewer.setLayer({ rid: "x" })).rejects.toMatchObject({ status: 422, message: "refused with 422" });
    await viewer.close();
    await expect(viewer.setLayer({ rid: "x" })).rejects.toMatchObject({ kind: "refused" });
  });
});

describe("tokens", () => {
  it("are renewed on the session's URL before they end, and asked for once more after a 401", async () => {
    let asked = 0;
    const token = async (): Promise<string> => {
      asked += 1;
      const exp = Math.floor(Date.now() / 1000) + 30 + asked;
      return `x.${btoa(JSON.stringify({ exp }))}.${asked}`;
    };
    await begin(() => undefined, { token });
    const bearer = (at: number): string => server.asked.at(at)?.headers.get("authorization") ?? "";
    expect(bearer(0)).toMatch(/\.1$/);
    await settle(21_000);
    expect(server.asked.at(-1)).toMatchObject({ method: "GET", url: `${ENDPOINT}/1` });
    expect(bearer(-1)).toMatch(/\.2$/);
    let refusals = 1;
    server.others = ({ url }) =>
      url.endsWith("/layer") ? (refusals-- > 0 ? refused(401) : new Response(null, { status: 200 })) : undefined;
    await viewer.setLayer({ rid: "m" });
    expect(bearer(-1)).toMatch(/\.3$/);
  });

  it("that cannot be had are an error like a refused one", async () => {
    const errors: unknown[] = [];
    await begin((of) => of.on("error", (error) => errors.push(error)), {
      token: () => Promise.reject(new Error("the backend is down")),
    });
    expect(viewer.state).toBe("failed");
    expect(errors).toMatchObject([{ kind: "unauthorised", message: "no token could be had: the backend is down" }]);
  });
});
