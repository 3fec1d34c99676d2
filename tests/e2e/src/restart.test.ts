import assert from "node:assert/strict";
import { test } from "node:test";
import type { Viewer } from "./support/browser.ts";
import { flv } from "./support/ffmpeg.ts";
import { record } from "./support/figures.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

const stage = Stage.set();

/** From a new publisher's first picture (its first keyframe) to that publisher's picture on the screen. */
async function resumedAfterMs(viewer: Viewer, source: number, firstPictureMs: number): Promise<number> {
  await viewer.sees(source, 15_000);
  const { shown } = await viewer.report();
  const first = shown.find((frame) => frame.source === source);
  return (first?.atMs ?? Number.NaN) - firstPictureMs;
}

async function stillTheSameSession(viewer: Viewer, url: string): Promise<void> {
  const response = await fetch(url);
  assert.ok(response.ok, `the session answers ${response.status}`);
  await response.arrayBuffer();
  assert.equal((await viewer.report()).state, "connected");
}

test(
  "An RTMP publisher is killed, another comes by RTMP, then one by WHIP: the viewer plays on in the same session",
  stage.act(async () => {
    const first = await stage.ffmpeg({ source: 1, gopSeconds: 2 }, flv(stage.server.rtmp("show")));
    await until("the stream is live", () => stage.server.stream("show"));
    const viewer = await stage.viewer();
    const url = await viewer.start(stage.server.whep("show"));
    await viewer.sees(1);

    await first.kill();
    await measureFor(1000);
    const second = await stage.ffmpeg({ source: 2, gopSeconds: 2 }, flv(stage.server.rtmp("show")));
    const byRtmpMs = await resumedAfterMs(viewer, 2, second.startedAtMs);
    record("RTMP publisher replaced by RTMP: ffmpeg's start to its picture seen", byRtmpMs, "ms", 1000);
    await stillTheSameSession(viewer, url);

    await second.kill();
    await measureFor(1000);
    const third = await stage.publisher({ endpoint: stage.server.whip("show"), source: 3, codec: "H264" });
    const connectedAtMs = (await third.report()).connectedAtMs ?? Number.NaN;
    const byWhipMs = await resumedAfterMs(viewer, 3, connectedAtMs);
    record("RTMP publisher replaced by WHIP: connected to its picture seen", byWhipMs, "ms", 1000);
    await stillTheSameSession(viewer, url);
    assert.ok(byRtmpMs < 4000, `${byRtmpMs} ms`);
    assert.ok(byWhipMs < 4000, `${byWhipMs} ms`);

    // Not only a first picture: it goes on playing, with sound.
    await viewer.reset();
    const energy = (await viewer.report()).stats.audioEnergy;
    await measureFor(3000);
    const report = await viewer.report();
    assert.ok(report.shown.length > 60, `${report.shown.length} pictures in 3 s: ${JSON.stringify(report.stats)}`);
    assert.ok(report.stats.audioEnergy > energy, "no sound after the change");
  }),
);

test(
  "A newcomer takes over from a live publisher, and the viewer follows",
  stage.act(async () => {
    await stage.publisher({ endpoint: stage.server.whip("take"), source: 4, codec: "H264" });
    const viewer = await stage.viewer();
    const url = await viewer.start(stage.server.whep("take"));
    await viewer.sees(4);
    const newcomer = await stage.ffmpeg({ source: 5, gopSeconds: 2 }, flv(stage.server.rtmp("take")));
    const takenMs = await resumedAfterMs(viewer, 5, newcomer.startedAtMs);
    record("WHIP publisher taken over by RTMP: ffmpeg's start to its picture seen", takenMs, "ms", 1000);
    await viewer.reset();
    await measureFor(2000);
    assert.equal(await viewer.framesOf(4), 0, "the old publisher is still seen");
    await stillTheSameSession(viewer, url);
  }),
);

test(
  "A publisher that vanishes is noticed within 5 s, one that says goodbye at once",
  stage.act(async () => {
    const vanishing = await stage.publisher({ endpoint: stage.server.whip("gone"), source: 6 });
    await until("the stream is live", () => stage.server.stream("gone"));
    await vanishing.close();
    const began = Date.now();
    await until("its end is noticed", async () => (await stage.server.stream("gone")) === undefined, { withinMs: 8000 });
    record("WHIP publisher vanished: until noticed", Date.now() - began, "ms", 5000);

    const polite = await stage.publisher({ endpoint: stage.server.whip("gone"), source: 6 });
    await until("the stream is live", () => stage.server.stream("gone"));
    assert.equal(await polite.stop(), 200);
    await until("its end is noticed", async () => (await stage.server.stream("gone")) === undefined, { withinMs: 500 });
  }),
);
