import { describe, expect, it } from "vitest";
import { encodingsFor, preferenceFor, scaleFor, sendableCodecs } from "./encodings.ts";

const codecs = ["video/VP8", "video/rtx", "video/H264", "video/AV1", "video/red", "video/h264", "video/H265"].map(
  (mimeType) => ({
    mimeType,
    clockRate: 90_000,
  }),
);

describe("codecs", () => {
  it("are those that the browser sends and Sluice takes, once each, the most playable first", () => {
    expect(sendableCodecs({ codecs })).toEqual(["H264", "VP8", "AV1"]);
    expect(sendableCodecs(null)).toEqual([]);
    expect(sendableCodecs(), "there is no browser here").toEqual([]);
  });

  it("are narrowed to the chosen one in all its profiles, and retransmission", () => {
    expect(preferenceFor(codecs, "H264").map(({ mimeType }) => mimeType)).toEqual([
      "video/rtx",
      "video/H264",
      "video/h264",
    ]);
  });
});

describe("scaleFor", () => {
  it("shrinks what is too high and leaves the rest", () => {
    expect(scaleFor(1_080, 720)).toBe(1.5);
    expect(scaleFor(480, 720)).toBe(1);
    expect(scaleFor(undefined, 720)).toBe(1);
    expect(scaleFor(1_080, undefined)).toBe(1);
  });
});

describe("encodingsFor", () => {
  it("is one without a name unless several are asked for", () => {
    expect(encodingsFor({ height: 1_080, maxHeight: 720, maxFps: 30, kbps: 2_500 }, 1)).toEqual([
      { scaleResolutionDownBy: 1.5, maxBitrate: 2_500_000, maxFramerate: 30 },
    ]);
    expect(encodingsFor({ kbps: null }, 1)).toEqual([{ scaleResolutionDownBy: 1 }]);
  });

  it("halves the height from one to the next, the smallest first, and leaves out what is tiny", () => {
    expect(encodingsFor({ height: 720, kbps: 2_000 }, 3)).toEqual([
      { rid: "l", scalabilityMode: "L1T1", scaleResolutionDownBy: 4, maxBitrate: 180_000 },
      { rid: "m", scalabilityMode: "L1T1", scaleResolutionDownBy: 2, maxBitrate: 600_000 },
      { rid: "h", scalabilityMode: "L1T1", scaleResolutionDownBy: 1, maxBitrate: 2_000_000 },
    ]);
    expect(encodingsFor({ height: 360, kbps: null }, 3).map(({ rid }) => rid)).toEqual(["m", "h"]);
    expect(encodingsFor({ height: 200, kbps: null }, 3)).toEqual([{ scaleResolutionDownBy: 1 }]);
    expect(encodingsFor({ kbps: null }, 3).map(({ rid }) => rid)).toEqual(["l", "m", "h"]);
  });
});
