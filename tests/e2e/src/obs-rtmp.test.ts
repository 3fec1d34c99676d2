// OBS itself, as it is after installation: "Start Streaming" by RTMP, driven over obs-websocket.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as clock from "./clock.ts";
import { record } from "./support/figures.ts";
import { HlsPlayer, play } from "./support/hls-player.ts";
import { IS_LONG } from "./support/length.ts";
import { assertPlays, watchUndisturbed } from "./support/measure.ts";
import { Obs } from "./support/obs.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

const stage = Stage.set({ TRANSCODE__FFMPEG: process.env["SLUICE_FFMPEG"] ?? "ffmpeg" });
/** A minute when somebody has the time, a quarter of it in every run. */
const WATCHED_MS = IS_LONG ? 60_000 : 15_000;

/**
 * What keeps B-frames out, and the latency that is aimed at. With `bframes=0` alone x264 still looks ten pictures ahead and encodes three at
 * a time: 400 ms before anything is sent.
 */
const WITHOUT_B_FRAMES: [string, number][] = [["tune=zerolatency", 400]];
if (IS_LONG) WITHOUT_B_FRAMES.push(["bframes=0", 800]);

/** Watches what OBS sends to a stream, and says how it went. */
async function watch(stream: string, source: number, name: string, latencyMaxMs: number): Promise<void> {
  const viewer = await stage.viewer();
  await viewer.start(stage.server.whep(stream));
  await viewer.sees(source);
  await measureFor(4000);
  const watched = await watchUndisturbed(viewer, WATCHED_MS);
  const perSecond = (watched.report.shown.length * 1000) / WATCHED_MS;
  record(`${name}: pictures of ${clock.FPS} a second that are not seen`, clock.FPS - perSecond, "", 1);
  record(`${name}: freezes in ${WATCHED_MS / 1000} s`, watched.freezes, "", 0);
  record(`${name}: latency p50`, watched.p50Ms, "ms", latencyMaxMs);
  assertPlays(watched, WATCHED_MS);
  assert.ok(perSecond > clock.FPS * 0.8, `${perSecond} pictures a second`);
  assert.ok(watched.p50Ms < latencyMaxMs * 2, `${watched.p50Ms} ms`);
}

test(
  "OBS as installed is seen smoothly by WebRTC, with sound, and by HLS; without B-frames it is seen sooner",
  stage.act(async () => {
    const obs = await Obs.start(1);
    stage.closeLater(() => obs.close());
    const application = `rtmp://${new URL(stage.server.rtmp("any")).host}/live`;
    await obs.stream(application, "as-installed");
    await until("the stream is live", () => stage.server.stream("as-installed"));
    await watch("as-installed", 1, "OBS as installed", 1000);
    const state = await stage.server.stream("as-installed");
    // Where the machine is busy, OBS leaves pictures out, too, and that is told.
    const codes = state?.notices.map(({ code }) => code) ?? [];
    assert.ok(codes.includes("b-frames-reencoded") && !codes.includes("b-frames-dropped"), JSON.stringify(codes));
    assert.ok(codes.includes("encoder-delay"), JSON.stringify(codes));
    assert.equal(state?.reencoding?.starts, 1);
    const player = await HlsPlayer.open(stage.pages);
    stage.closeLater(() => player.close());
    await player.start(stage.server.hls("as-installed"));
    await player.sees(1);
    await play(player, 5000);
    await player.close();
    await obs.stop();

    await obs.set("SimpleOutput", "UseAdvanced", "true");
    for (const [settings, latencyMaxMs] of WITHOUT_B_FRAMES) {
      const stream = settings.replace("=", "-");
      await obs.set("SimpleOutput", "x264Settings", settings);
      await obs.stream(application, stream);
      await until("the stream is live", () => stage.server.stream(stream));
      await watch(stream, 1, `OBS, ${settings}`, latencyMaxMs);
      const without = await stage.server.stream(stream);
      assert.equal(without?.reencoding, null);
      const told = without?.notices.map(({ code }) => code) ?? [];
      assert.deepEqual(told.filter((code) => code.startsWith("b-frames")), []);
      assert.equal(told.includes("encoder-delay"), settings === "bframes=0", JSON.stringify(without?.notices));
      await obs.stop();
    }
  }),
);
