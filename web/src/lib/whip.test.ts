import { describe, expect, it } from "vitest";
import { preferenceFor, scaleFor, sendableCodecs } from "./whip";

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
