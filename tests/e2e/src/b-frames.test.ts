// Streams with B-frames, as OBS sends them by default: WebRTC cannot show them, so they are encoded anew while somebody watches.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as clock from "./clock.ts";
import type { Viewer } from "./support/browser.ts";
import { flv } from "./support/ffmpeg.ts";
import { record } from "./support/figures.ts";
import { HlsPlayer, play } from "./support/hls-player.ts";
import { assertPlays, soundAfterPictureMs, watchUndisturbed } from "./support/measure.ts";
import { childrenOf } from "./support/processes.ts";
import { Server, type StreamState } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

const FFMPEG = process.env["SLUICE_FFMPEG"] ?? "ffmpeg";
/** x264 as OBS sets it up: `veryfast`, three B-frames in a pyramid. */
const LIKE_OBS = ["-preset", "veryfast", "-tune", "film", "-profile:v", "high", "-bf", "3", "-x264-params", "b-pyramid=normal:rc-lookahead=10"];

const stage = Stage.set({ TRANSCODE__FFMPEG: FFMPEG });

async function publish(stream: string, source: number, server = stage.server): Promise<void> {
  await stage.ffmpeg({ source, gopSeconds: 2, video: LIKE_OBS }, flv(server.rtmp(stream)));
  await until("B-frames are noticed", async () => (await notices(stream, server)).some((code) => code.startsWith("b-frames")));
}

async function notices(stream: string, server = stage.server): Promise<string[]> {
  return ((await server.stream(stream))?.notices ?? []).map(({ code }) => code);
}

async function reencoding(stream: string): Promise<StreamState["reencoding"]> {
  return (await stage.server.stream(stream))?.reencoding ?? null;
}

async function watch(stream: string, source: number, server = stage.server): Promise<Viewer> {
  const viewer = await stage.viewer();
  await viewer.start(server.whep(stream));
  await viewer.sees(source);
  return viewer;
}

test(
  "B-frames as OBS sends them: every picture is seen by WebRTC, smoothly and with sound, and HLS has the original",
  stage.act(async () => {
    await publish("as-obs", 1);
    assert.deepEqual(await notices("as-obs"), ["encoder-delay", "b-frames-reencoded"]);
    assert.equal(await reencoding("as-obs"), null, "nobody watches");
    const viewer = await watch("as-obs", 1);
    await until("it is encoded anew", async () => (await reencoding("as-obs"))?.latency_ms != null);
    await measureFor(3000);
    const watched = await watchUndisturbed(viewer, 15_000);
    assertPlays(watched, 15_000);
    const perSecond = watched.report.shown.length / 15;
    record(`B-frames: pictures of ${clock.FPS} a second that are not seen`, clock.FPS - perSecond, "", 1);
    record("B-frames: freezes in 15 s", watched.freezes, "", 0);
    record("B-frames: latency p50", watched.p50Ms, "ms", 1000);
    assert.ok(perSecond > clock.FPS * 0.9, `${perSecond} pictures a second`);
    assert.ok(watched.p50Ms < 1500, `${watched.p50Ms} ms`);
    const drawnMs = watched.report.shown.map((frame) => frame.atMs - frame.ageMs);
    assert.deepEqual(drawnMs.filter((ms, i) => ms < (drawnMs[i - 1] ?? 0) - 1), [], "pictures went back in time");
    const offsetMs = soundAfterPictureMs(watched);
    record("B-frames: sound after picture", Math.abs(offsetMs), "ms", 80);
    assert.ok(Math.abs(offsetMs) < 200, `sound comes ${offsetMs} ms after the picture`);
    const state = await stage.server.stream("as-obs");
    const layers = state?.tracks.find(({ kind }) => kind === "video")?.layers.map(({ role, active }) => ({ role, active }));
    assert.deepEqual(layers, [{ role: "replaced", active: false }, { role: "made", active: true }]);
    record("B-frames: encoding takes", (await reencoding("as-obs"))?.latency_ms ?? Infinity, "ms", 300);
    record("B-frames: share of a core", (await reencoding("as-obs"))?.cpu_share ?? Infinity, "", 1);

    const player = await HlsPlayer.open(stage.pages);
    stage.closeLater(() => player.close());
    await player.start(stage.server.hls("as-obs"));
    await player.sees(1);
    await play(player, 5000);
    assert.equal((await reencoding("as-obs"))?.starts, 1);

    assert.equal(await viewer.stop(), 200);
    await until("it is not encoded any more", async () => (await reencoding("as-obs")) === null, { withinMs: 20_000 });
    assert.deepEqual(childrenOf(stage.server.pid), []);
    const layer = (await stage.server.stream("as-obs"))?.tracks.find(({ kind }) => kind === "video")?.layers[0];
    assert.deepEqual([layer?.role, layer?.active], ["sent", true]);
  }),
);

test(
  "an encoder that is killed is replaced, and meanwhile there are pictures",
  stage.act(async () => {
    await publish("killed", 2);
    const viewer = await watch("killed", 2);
    await until("it is encoded anew", async () => (await reencoding("killed"))?.latency_ms != null);
    const [child] = childrenOf(stage.server.pid);
    assert.ok(child !== undefined, "there is a process");
    await viewer.reset();
    process.kill(child, "SIGKILL");
    await until("another has begun", async () => (await reencoding("killed"))?.starts === 2);
    await until("it gives pictures", async () => (await reencoding("killed"))?.latency_ms != null);
    await measureFor(3000);
    const { shown } = await viewer.report();
    const gapsMs = shown.map((frame, i) => frame.atMs - (shown[i - 1] ?? frame).atMs);
    record("B-frames, encoder killed: longest time between two pictures", Math.max(...gapsMs), "ms", 500);
    assert.ok(Math.max(...gapsMs) < 3000, `${Math.max(...gapsMs)} ms without a picture`);
    assert.equal((await reencoding("killed"))?.failing, null);
    assert.equal(await stage.server.metric("sluice_reencoder_failures_total"), 1);
  }),
);

for (const [name, settings] of [
  ["an encoder that does not work", { TRANSCODE__FFMPEG: "/bin/false" }],
  ["no ffmpeg", { TRANSCODE__FFMPEG: "/nowhere/ffmpeg" }],
  ["the setting off", { TRANSCODE__FFMPEG: FFMPEG, TRANSCODE__B_FRAMES: "false" }],
] as const) {
  test(
    `with ${name}, B-frames are left out, viewers see what remains in order, and the publisher is told`,
    stage.act(async () => {
      const server = await Server.start(settings);
      stage.closeLater(async () => void (await server.stop()));
      await publish("left-out", 3, server);
      const viewer = await watch("left-out", 3, server);
      await until("that is said", async () => (await notices("left-out", server)).includes("b-frames-dropped"));
      await viewer.reset();
      await measureFor(4000);
      const { shown } = await viewer.report();
      const drawnMs = shown.map((frame) => frame.atMs - frame.ageMs);
      assert.deepEqual(drawnMs.filter((ms, i) => ms < (drawnMs[i - 1] ?? 0) - 1), [], "pictures went back in time");
      assert.ok(shown.length > 20, `${shown.length} pictures in 4 s`);
      assert.ok(server.log.some((line) => /B-frames/.test(line)), server.tail());
    }),
  );
}
