import { describe, expect, it } from "vitest";
import { BitrateMeter, parseDoors, parseStreams, parseViewers } from "./streams";

const stream = (bytes: number, session = "s1"): object => ({
  name: "cam1",
  live: true,
  since: "2026-01-31T12:00:00.000Z",
  publisher: { session, protocol: "whip", priority: "primary", remote: "192.0.2.7:51000", user_agent: "OBS", subject: null },
  standby: { session: "s9", protocol: "rtmp", priority: "backup", remote: "192.0.2.9:51000", user_agent: "", subject: null },
  tracks: [{ kind: "video", codec: "H264", fmtp: "", channels: 1, packets: 1, bytes, keyframes: 1 }],
  notices: [{ code: "b-frames-dropped", text: "Set B-frames to 0." }],
  viewer_count: 2,
  pulls: [{ source: "rtmp://192.0.2.3:1935/live", on_demand: true, state: "retrying", problem: "refused", attempts: 2 }],
});

describe("parseDoors", () => {
  it("knows RTMP's port, and that there may be none", () => {
    expect(parseDoors({ rtmp_port: 1936 })).toEqual({ rtmpPort: 1936 });
    expect(parseDoors({ rtmp_port: null })).toEqual({ rtmpPort: null });
    for (const other of [{}, null, []]) expect(() => parseDoors(other)).toThrow("doors");
  });
});

describe("parseStreams", () => {
  it("reads what the API documents", () => {
    const [parsed] = parseStreams({ streams: [stream(1_000)] });
    expect(parsed).toMatchObject({
      name: "cam1",
      live: true,
      viewers: 2,
      publisher: { protocol: "whip", priority: "primary", userAgent: "OBS" },
      standby: { protocol: "rtmp", priority: "backup" },
    });
    expect(parsed?.sinceMs).toBe(Date.parse("2026-01-31T12:00:00Z"));
    const source = { source: "rtmp://192.0.2.3:1935/live", onDemand: true, state: "retrying", problem: "refused" };
    expect(parsed?.pulls).toEqual([source]);
    expect(parsed?.notices).toEqual([{ code: "b-frames-dropped", text: "Set B-frames to 0." }]);
  });

  it("takes what has fields missing, and drops what has no name", () => {
    expect(parseStreams({ streams: [{ name: "a" }, {}, null, 7] })).toEqual([
      {
        name: "a",
        live: false,
        sinceMs: null,
        publisher: null,
        standby: null,
        tracks: [],
        notices: [],
        viewers: 0,
        pulls: [],
      },
    ]);
  });

  it("refuses what is no list", () => {
    for (const document of [null, [], {}, { streams: {} }])
      expect(() => parseStreams(document)).toThrow(/cannot be read/);
  });
});

describe("parseViewers", () => {
  it("reads a stream's viewers", () => {
    const told = { session: "v", from: "192.0.2.8:1", user_agent: "x", since: "bad", connected: true, bytes_sent: 5 };
    const read = { session: "v", from: "192.0.2.8:1", userAgent: "x", sinceMs: null, connected: true, bytesSent: 5 };
    const path = { round_trip_ms: 38.5, lost_share: 0.25 };
    expect(parseViewers({ viewers: [told, { ...told, ...path }] })).toEqual([
      { ...read, roundTripMs: null, lostShare: null },
      { ...read, roundTripMs: 38.5, lostShare: 0.25 },
    ]);
    expect(parseViewers(null)).toEqual([]);
  });
});

describe("BitrateMeter", () => {
  it("measures between polls of the same publisher", () => {
    const meter = new BitrateMeter();
    expect(meter.update(parseStreams({ streams: [stream(0)] }), 0).get("cam1")).toBeNull();
    expect(meter.update(parseStreams({ streams: [stream(250_000)] }), 1_000).get("cam1")).toBe(2_000);
    expect(
      meter.update(parseStreams({ streams: [stream(300_000, "s2")] }), 2_000).get("cam1"),
      "another publisher",
    ).toBeNull();
    expect(
      meter.update(parseStreams({ streams: [stream(100, "s2")] }), 3_000).get("cam1"),
      "fewer than before",
    ).toBeNull();
  });
});
