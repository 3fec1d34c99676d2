import { describe, expect, it } from "vitest";
import { parseEvent } from "./whep-events.ts";

describe("parseEvent", () => {
  it("reads the draft's events", () => {
    expect(parseEvent("active", "{}")).toEqual({ type: "active" });
    expect(parseEvent("inactive", '{"later":1}')).toEqual({ type: "inactive" });
    expect(parseEvent("viewercount", '{"viewercount":3}')).toEqual({ type: "viewercount", viewers: 3 });
    expect(parseEvent("reconnect", '{"url":"https://b.example/whep/x"}')).toEqual({
      type: "reconnect",
      url: "https://b.example/whep/x",
    });
    expect(parseEvent("reconnect", "{}")).toEqual({ type: "reconnect", url: null });
  });

  it("reads layers of each media line, however the height is spelt", () => {
    const data = JSON.stringify({
      "0": [
        { rid: "h", bitrate: 557_112, targetBitrate: 572_000, width: 1280, height: 720, colour: "red" },
        { rid: "m", targetBitrate: 100_000, width: 640, heigth: 360 },
      ],
      "2": [{ spatialLayerId: 1, temporalLayerId: 0, bitrate: 1 }, null, "x"],
      "3": "no list",
    });
    const event = parseEvent("layers", data);
    expect(event?.type === "layers" && event.layers).toEqual([
      expect.objectContaining({ mediaId: "0", rid: "h", height: 720, bitrateBps: 557_112, active: true }),
      expect.objectContaining({ mediaId: "0", rid: "m", height: 360, bitrateBps: null, active: false }),
      expect.objectContaining({ mediaId: "2", rid: null, spatialLayerId: 1, temporalLayerId: 0, width: null }),
    ]);
  });

  it("keeps no endless list, and ignores what it does not understand", () => {
    const many = parseEvent("layers", JSON.stringify({ "0": new Array(1_000).fill({ rid: "a" }) }));
    expect(many?.type === "layers" && many.layers).toHaveLength(64);
    for (const [type, data] of [
      ["scte35", "/DA8"],
      ["later", "{}"],
      ["active", "no json"],
      ["active", "[]"],
      ["viewercount", '{"viewercount":"3"}'],
    ] as const) {
      expect(parseEvent(type, data)).toBeNull();
    }
  });
});
