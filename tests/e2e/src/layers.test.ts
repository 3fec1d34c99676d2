// Simulcast: Chromium sends three layers of a picture, a viewer goes from one to another.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as clock from "./clock.ts";
import type { Viewer } from "./support/browser.ts";
import { record } from "./support/figures.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

const stage = Stage.set();

const LAYERS = [
  { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 200_000 },
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 600_000 },
  { rid: "f", scaleResolutionDownBy: 1, maxBitrate: 1_500_000 },
];
/** Chromium sends three layers of a picture of 960 x 540 or more; this is 1024 x 576. */
const SCALE = 1.6;
const width = (rid: string): number => (clock.WIDTH * SCALE) / (LAYERS.find((layer) => layer.rid === rid)?.scaleResolutionDownBy ?? 1);

/** The layers of the stream's picture, once all three are sent and the server knows their size. */
async function layersOf(stream: string): Promise<{ rid: string | null; width: number | null; active: boolean }[]> {
  return until("all layers are sent", async () => {
    const video = (await stage.server.stream(stream))?.tracks.find(({ kind }) => kind === "video");
    const layers = video?.layers ?? [];
    return layers.length === 3 && layers.every(({ active, width }) => active && width !== null) && layers;
  }, { withinMs: 20_000 });
}

async function choose(session: string, rid: string): Promise<void> {
  const body = JSON.stringify({ rid });
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${session}/layer`, { method: "POST", headers, body });
  assert.equal(response.status, 200, await response.text());
}

/** Waits until pictures of this width are decoded; gives how long that took. */
async function shows(viewer: Viewer, wanted: number): Promise<number> {
  const began = Date.now();
  await until(`pictures ${wanted} wide`, async () => (await viewer.report()).stats.width === wanted, { everyMs: 20 });
  return Date.now() - began;
}

for (const codec of ["VP8", "H264"]) {
  test(
    `A viewer goes up and down between the layers of ${codec} without a break`,
    stage.act(async () => {
      const { server } = stage;
      const name = `layers-${codec.toLowerCase()}`;
      const publisher = await stage.publisher({ endpoint: server.whip(name), source: 1, codec, layers: LAYERS, scale: SCALE });
      const layers = await layersOf(name);
      assert.deepEqual(layers.map(({ rid, width }) => [rid, width]), LAYERS.map(({ rid }) => [rid, width(rid)]));

      const viewer = await stage.viewer();
      const session = await viewer.start(server.whep(name));
      await viewer.sees(1);
      await shows(viewer, width("f"));
      await measureFor(2000);

      await viewer.reset();
      const before = (await viewer.report()).stats;
      const askedBefore = (await publisher.report()).pliCount;
      const tookMs: number[] = [];
      const rids = ["q", "f", "h", "q", "h", "f"];
      for (const rid of rids) {
        await choose(session, rid);
        tookMs.push(await shows(viewer, width(rid)));
        await measureFor(1200);
        assert.equal((await viewer.report()).stats.width, width(rid), "it stays");
      }
      record(`${codec} simulcast: layer chosen to its picture decoded, the slowest of ${rids.length}`, Math.max(...tookMs), "ms", 500);

      const { stats, shown, unreadable } = await viewer.report();
      const asked = (await publisher.report()).pliCount - askedBefore;
      assert.equal(stats.packetsLost, before.packetsLost, "no gap in numbers");
      assert.equal(stats.pliCount, before.pliCount, `the viewer's decoder missed nothing: ${JSON.stringify(stats)}`);
      assert.ok(asked <= rids.length * 2, `${asked} keyframe requests for ${rids.length} switches`);
      const gapsMs = shown.slice(1).map((frame, at) => frame.atMs - (shown[at]?.atMs ?? 0));
      record(`${codec} simulcast: longest time between two pictures over ${rids.length} switches`, Math.max(...gapsMs), "ms", 150);
      assert.ok(Math.max(...gapsMs) < 500, `the picture stood still for ${Math.max(...gapsMs)} ms`);
      assert.ok(unreadable <= shown.length / 20, `${unreadable} of ${shown.length} pictures were damaged`);
      const seconds = ((shown.at(-1)?.atMs ?? 0) - (shown[0]?.atMs ?? 0)) / 1000;
      const decoded = stats.framesDecoded - before.framesDecoded;
      assert.ok(decoded > seconds * clock.FPS * 0.8, `${decoded} pictures decoded in ${seconds} s`);
      const dropped = stats.framesDropped - before.framesDropped;
      assert.ok(dropped <= decoded / 10, `${dropped} of ${decoded} pictures were dropped`);

      // What the camera shows never runs back by more than encoders differ.
      const captured = shown.map((frame) => frame.atMs - frame.ageMs);
      const backMs = Math.max(...captured.slice(1).map((ms, at) => (captured[at] ?? 0) - ms));
      assert.ok(backMs < 150, `the picture went back by ${backMs} ms`);
    }),
  );
}

test(
  "A viewer falls to the next layer when its own stops, and gets it back",
  stage.act(async () => {
    const { server } = stage;
    const publisher = await stage.publisher({ endpoint: server.whip("stops"), source: 2, codec: "VP8", layers: LAYERS, scale: SCALE });
    await layersOf("stops");
    const viewer = await stage.viewer();
    await viewer.start(server.whep("stops"));
    await shows(viewer, width("f"));
    await publisher.setActive("f", false);
    await shows(viewer, width("h"));
    const video = (await server.stream("stops"))?.tracks.find(({ kind }) => kind === "video");
    assert.deepEqual(video?.layers.map(({ active }) => active), [true, true, false]);
    await viewer.reset();
    await measureFor(1000);
    assert.ok((await viewer.framesOf(2)) > clock.FPS / 2, "it plays on");
    await publisher.setActive("f", true);
    await shows(viewer, width("f"));
    assert.equal((await viewer.report()).state, "connected");
  }),
);
