import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { Join } from "./page/viewer.ts";
import { flv, RtmpYardstick, whip } from "./support/ffmpeg.ts";
import { percentile, record } from "./support/figures.ts";
import { IS_LONG } from "./support/length.ts";
import { assertPlays, soundAfterPictureMs, watchUndisturbed } from "./support/measure.ts";
import { freePort } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

const stage = Stage.set();
const JOINS = IS_LONG ? 20 : 10;

for (const [index, gopSeconds] of [2, 10].entries()) {
  const source = index + 1;
  const stream = `rtmp-${gopSeconds}`;
  test(
    `ffmpeg publishes by RTMP with ${gopSeconds} s between keyframes: instant joins, low latency, sound in sync`,
    stage.act(async () => {
      const yardstick = await RtmpYardstick.listen(await freePort());
      stage.closeLater(() => yardstick.stop());
      // The listening socket comes up some moments after the process.
      await delay(500);
      const publisher = await stage.ffmpeg({ source, gopSeconds }, flv(stage.server.rtmp(stream), yardstick.url));
      await until("the stream is live", () => stage.server.stream(stream)).catch((error: unknown) => {
        throw new Error(`${String(error)}\n${publisher.stderr.join("\n")}`);
      });

      const watching = await stage.viewer();
      await watching.start(stage.server.whep(stream));
      await watching.sees(source, gopSeconds * 1000 + 5000);
      // The fast-forward at the beginning is over.
      await measureFor(2000);
      yardstick.agesMs.length = 0;
      const watched = await watchUndisturbed(watching, 15_000);
      assertPlays(watched, 15_000);
      assert.equal(watched.lost, 0);
      const straightMs = percentile(yardstick.agesMs, 0.5);
      const name = `RTMP, GOP ${gopSeconds} s`;
      record(`${name}: latency p50 above straight RTMP`, watched.p50Ms - straightMs, "ms", 40);
      const straightP95Ms = percentile(yardstick.agesMs, 0.95);
      record(`${name}: latency p95 above straight RTMP`, watched.p95Ms - straightP95Ms, "ms", 40);
      assert.ok(watched.p50Ms - straightMs < 200, `${watched.p50Ms} ms, straight ${straightMs} ms`);
      const offsetMs = soundAfterPictureMs(watched);
      record(`${name}: sound after picture`, Math.abs(offsetMs), "ms", 80);
      assert.ok(Math.abs(offsetMs) < 200, `sound comes ${offsetMs} ms after the picture`);
      await watching.close();

      const viewer = await stage.viewer();
      const joins: Join[] = [];
      for (let i = 0; i < JOINS; i += 1) {
        // Random moments; the GOP's phase runs away from them anyway.
        await delay(Math.random() * 700);
        joins.push(await viewer.join(stage.server.whep(stream), watched.p95Ms + 50, gopSeconds * 1000 + 3000));
      }
      const p95Ms = percentile(joins.map((join) => join.firstPictureMs), 0.95);
      record(`${name}: answer to first picture, p95 of ${JOINS}`, p95Ms, "ms", 150);
      const edges = joins.map((join) => join.liveEdgeMs ?? Number.POSITIVE_INFINITY);
      record(`${name}: answer to live edge, p95 of ${JOINS}`, percentile(edges, 0.95), "ms", 120 + gopSeconds * 20);
      assert.ok(p95Ms < 600, JSON.stringify(joins));
    }),
  );
}

test(
  "ffmpeg's whip muxer publishes, and the same page plays it",
  stage.act(async () => {
    const publisher = await stage.ffmpeg({ source: 3, gopSeconds: 2 }, whip(stage.server.whip("muxer")));
    await until("the stream is live", () => stage.server.stream("muxer")).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${publisher.stderr.join("\n")}`);
    });
    const viewer = await stage.viewer();
    await viewer.start(stage.server.whep("muxer"));
    await viewer.sees(3);
    await measureFor(2000);
    const watched = await watchUndisturbed(viewer, 10_000);
    record("ffmpeg WHIP: latency p50", watched.p50Ms, "ms", 100);
    assertPlays(watched, 10_000);
    assert.equal(watched.lost, 0);
    assert.equal(publisher.ended, undefined, publisher.stderr.join("\n"));
  }),
);
