import assert from "node:assert/strict";
import { test } from "node:test";
import { record } from "./support/figures.ts";
import { IS_LONG } from "./support/length.ts";
import { assertPlays, watchUndisturbed } from "./support/measure.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

const stage = Stage.set();
const WATCHED_MS = IS_LONG ? 30_000 : 15_000;

test(
  "Chromium publishes by WHIP, Chromium watches by WHEP: low latency, sound, no freeze",
  stage.act(async () => {
    const publisher = await stage.publisher({ endpoint: stage.server.whip("cam"), source: 1, codec: "H264" });
    const viewer = await stage.viewer();
    await viewer.start(stage.server.whep("cam"));
    await viewer.sees(1);
    await measureFor(2000);
    const watched = await watchUndisturbed(viewer, WATCHED_MS);
    record("browser to browser, glass to glass p50", watched.p50Ms, "ms", 19);
    record("browser to browser, glass to glass p95", watched.p95Ms, "ms", 50);
    record(`browser to browser, freezes in ${WATCHED_MS / 1000} s`, watched.freezes, "", 0);
    assertPlays(watched, WATCHED_MS);
    assert.equal(watched.freezes, 0, JSON.stringify(watched.report.stats));
    assert.ok(watched.p95Ms < 300, `p95 ${watched.p95Ms} ms`);
    const told = (await stage.server.stream("cam"))?.viewers[0];
    assert.ok((told?.bandwidth_bps ?? 0) > 100_000, `its own estimate of its path: ${JSON.stringify(told)}`);
    assert.ok((told?.round_trip_ms ?? Infinity) < 1000 && told?.lost_share === 0, JSON.stringify(told));
    // The cheapest of those that Chromium has, which is not the one that it lists first.
    assert.equal(watched.report.carrier?.srtp, "SRTP_AEAD_AES_128_GCM");
    assert.equal((await publisher.report()).carrier?.srtp, "SRTP_AEAD_AES_128_GCM");
  }),
);

for (const [index, codec] of ["H264", "VP8", "VP9", "AV1"].entries()) {
  test(
    `Chromium publishes ${codec}, and a viewer sees it`,
    stage.act(async () => {
      const stream = `codec-${codec}`;
      const publisher = await stage.publisher({ endpoint: stage.server.whip(stream), source: 2 + index, codec });
      const viewer = await stage.viewer();
      await viewer.start(stage.server.whep(stream));
      await viewer.sees(2 + index);
      await measureFor(3000);
      const { stats } = await viewer.report();
      assert.equal(stats.codec, `video/${codec}`);
      assert.equal((await publisher.report()).codec, `video/${codec}`);
      assert.ok(stats.framesDecoded > 45, JSON.stringify(stats));
      assert.equal(stats.packetsLost, 0);
      assert.ok(stats.audioEnergy > 0, "no sound");
      // Browsers send smaller pictures when the machine is busy.
      await until("the API has the size that the viewer sees", async () => {
        const track = (await stage.server.stream(stream))?.tracks.find(({ kind }) => kind === "video");
        const seen = (await viewer.report()).stats;
        return track !== undefined && track.width === seen.width && track.height === seen.height;
      });
    }),
  );
}

test(
  "A second viewer sees what the first sees, and leaving harms nobody",
  stage.act(async () => {
    await stage.publisher({ endpoint: stage.server.whip("two"), source: 7 });
    const [one, other] = [await stage.viewer(), await stage.viewer()];
    await one.start(stage.server.whep("two"));
    await other.start(stage.server.whep("two"));
    await one.sees(7);
    await other.sees(7);
    assert.equal(await one.stop(), 200);
    await other.reset();
    await other.sees(7);
  }),
);
