import type { Layer } from "@sluice-media/client";
import { describe, expect, it } from "vitest";
import { qualitiesOf } from "./quality-menu";

function layer(rid: string | null, height: number | null, bitrateBps: number | null, mediaId = "0"): Layer {
  const none = { spatialLayerId: null, temporalLayerId: null, width: null, targetBitrateBps: null };
  return { ...none, mediaId, rid, height, bitrateBps, active: (bitrateBps ?? 0) > 0 };
}

describe("qualitiesOf", () => {
  it("offers each encoding once, largest first, and says what is paused", () => {
    const layers = [layer("l", 180, 150_000), layer("h", 720, 2_100_000), layer("h", 720, 900_000), layer("m", 360, null)];
    expect(qualitiesOf(layers)).toEqual([
      { value: "h", label: "720p · 2.1 Mb/s" },
      { value: "m", label: "360p · paused" },
      { value: "l", label: "180p · 150 kb/s" },
    ]);
    expect(qualitiesOf([layer("a", null, 1_000), layer("b", null, 2_000)]).map(({ label }) => label)).toEqual([
      "a · 1 kb/s",
      "b · 2 kb/s",
    ]);
  });

  it("offers what is made of a publisher's only encoding", () => {
    const layers = [layer(null, 720, 2_000_000), layer("240p", 240, 200_000)];
    expect(qualitiesOf(layers)).toEqual([{ value: "240p", label: "240p · 200 kb/s" }]);
  });

  it("offers nothing where there is nothing to choose", () => {
    for (const layers of [[], [layer("h", 720, 1)], [layer(null, 720, 1), layer(null, 360, 1)], [layer("h", 720, 1), layer("x", 9, 1, "2")]]) {
      expect(qualitiesOf(layers)).toEqual([]);
    }
  });
});
