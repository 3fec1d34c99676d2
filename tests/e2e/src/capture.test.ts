// Viewers that ask for it are told when what they get was captured (the abs-capture-time header extension). The picture says it too.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Capture } from "./page/viewer.ts";
import { flv } from "./support/ffmpeg.ts";
import type { Viewer } from "./support/browser.ts";
import { percentile } from "./support/figures.ts";
import { Stage } from "./support/stage.ts";
import { until } from "./support/wait.ts";

const stage = Stage.set();
const VIDEO_TICKS_PER_MS = 90;

interface Told extends Capture {
  capturedAtMs: number;
  aheadMs: number;
}

/** What the browser is told of both tracks, once it is. */
async function told(viewer: Viewer): Promise<{ audio: Told; video: Told }> {
  let of: { audio: Told; video: Told } | undefined;
  await until("both tracks say when they were captured", async () => {
    const all = await viewer.captures();
    const find = (wanted: string): Told | undefined =>
      all.find((capture): capture is Told => capture.kind === wanted && capture.capturedAtMs !== undefined && capture.aheadMs !== undefined);
    const [audio, video] = [find("audio"), find("video")];
    of = audio && video && { audio, video };
    return of !== undefined;
  });
  if (of === undefined) throw new Error("unreachable");
  return of;
}

/** How much later pictures were captured, by what the browser is told, than they say that they were drawn: the median of some. */
async function lateMs(viewer: Viewer): Promise<number> {
  const late: number[] = [];
  await until("pictures of known capture are shown", async () => {
    const { video } = await told(viewer);
    // Worked out from the nearest picture shown: the newest packet's may not be on the screen yet.
    const near = (await viewer.report()).shown.at(-1);
    if (near?.rtpTimestamp !== undefined) {
      const ticks = (near.rtpTimestamp - video.rtpTimestamp) | 0;
      late.push(video.capturedAtMs + ticks / VIDEO_TICKS_PER_MS - (near.atMs - near.ageMs));
    }
    return late.length >= 20;
  });
  return percentile(late, 0.5);
}

for (const captureTimes of [true, false]) {
  const how = captureTimes ? "a publisher that says it with its packets" : "a publisher whose reports say it";
  test(
    `Capture times of ${how} reach the viewer`,
    stage.act(async () => {
      const stream = `captured-${captureTimes}`;
      await stage.publisher({ endpoint: stage.server.whip(stream), source: 1, codec: "VP8", captureTimes });
      const viewer = await stage.viewer();
      await viewer.start(stage.server.whep(stream), undefined, true);
      await viewer.sees(1);
      const { audio, video } = await told(viewer);
      // One machine, one clock; a report's way is all that keeps them apart.
      for (const { kind, aheadMs } of [audio, video]) assert.ok(aheadMs > -300 && aheadMs < 50, `${kind}: ${aheadMs} ms ahead`);
      const offMs = await lateMs(viewer);
      console.log(`  captured ${offMs.toFixed(1)} ms after it was drawn, the clock ${video.aheadMs} ms ahead`);
      assert.ok(Math.abs(offMs) < 100, `captured ${offMs} ms after it was drawn`);
    }),
  );
}

test(
  "Of what comes by RTMP the viewer is told when it came",
  stage.act(async () => {
    await stage.ffmpeg({ source: 2, gopSeconds: 2 }, flv(stage.server.rtmp("came")));
    const viewer = await stage.viewer();
    await until("the stream is live", () => stage.server.stream("came"));
    await viewer.start(stage.server.whep("came"), undefined, true);
    await viewer.sees(2);
    const { audio, video } = await told(viewer);
    assert.deepEqual([audio.aheadMs, video.aheadMs], [0, 0], "the server's own clock");
    const offMs = await lateMs(viewer);
    console.log(`  came ${offMs.toFixed(1)} ms after it was drawn`);
    // What the encoder took, which RTMP says nothing of.
    assert.ok(offMs > -100 && offMs < 700, `came ${offMs} ms after it was drawn`);
  }),
);

test(
  "A viewer that does not ask is told nothing of it",
  stage.act(async () => {
    await stage.publisher({ endpoint: stage.server.whip("untold"), source: 3, captureTimes: true });
    const viewer = await stage.viewer();
    await viewer.start(stage.server.whep("untold"));
    await viewer.sees(3);
    await until("both tracks come", async () => (await viewer.captures()).length === 2);
    for (const { capturedAtMs } of await viewer.captures()) assert.equal(capturedAtMs, undefined);
  }),
);
