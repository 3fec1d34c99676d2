// A primary publisher and its backup: who is on air, and what viewers notice of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Viewer } from "./support/browser.ts";
import { flv } from "./support/ffmpeg.ts";
import { record } from "./support/figures.ts";
import { IS_LONG } from "./support/length.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

const PRIMARY = 1;
const BACKUP = 2;
const stage = Stage.set();

/** Between the last picture of the one publisher and the first of the other. */
async function gapMs(viewer: Viewer, from: number, to: number): Promise<number> {
  await viewer.sees(to, 15_000);
  const { shown } = await viewer.report();
  const first = shown.find((frame) => frame.source === to);
  const before = shown.filter((frame) => frame.source === from && frame.atMs < (first?.atMs ?? 0));
  return (first?.atMs ?? Number.NaN) - (before.at(-1)?.atMs ?? Number.NaN);
}

async function onAir(stream: string): Promise<string | undefined> {
  return (await stage.server.stream(stream))?.publisher?.priority;
}

test(
  "A backup takes over from a primary that hangs or dies, and hands back: viewers miss a second at the most, in one session",
  stage.act(async () => {
    const key = stage.server.rtmp("spare");
    const primary = await stage.ffmpeg({ source: PRIMARY, gopSeconds: 2 }, flv(key));
    await until("the stream is live", () => stage.server.stream("spare"));
    await stage.ffmpeg({ source: BACKUP, gopSeconds: 2 }, flv(`${key}?priority=backup`));
    const ready = await until("the backup is ready", async () => {
      const state = await stage.server.stream("spare");
      return state?.standby?.ready === true ? state : undefined;
    });
    assert.deepEqual([ready.publisher?.priority, ready.standby?.priority], ["primary", "backup"]);
    const viewer = await stage.viewer();
    const session = await viewer.start(stage.server.whep("spare"));
    await viewer.sees(PRIMARY);

    // It hangs: the connection stays, and nothing comes.
    await viewer.reset();
    await viewer.sees(PRIMARY);
    primary.process.kill("SIGSTOP");
    const hungMs = await gapMs(viewer, PRIMARY, BACKUP);
    record("Primary hangs: gap until the backup's picture", hungMs, "ms", 1200);
    assert.ok(hungMs < 3000, `${hungMs} ms`);
    assert.equal(await onAir("spare"), "backup");

    await viewer.reset();
    await viewer.sees(BACKUP);
    primary.process.kill("SIGCONT");
    const backMs = await gapMs(viewer, BACKUP, PRIMARY);
    record("Primary is back: gap until its picture", backMs, "ms", 1200);
    assert.ok(backMs < 3000, `${backMs} ms`);
    assert.equal((await stage.server.stream("spare"))?.standby?.priority, "backup");

    await viewer.reset();
    await viewer.sees(PRIMARY);
    await primary.kill();
    const killedMs = await gapMs(viewer, PRIMARY, BACKUP);
    record("Primary killed: gap until the backup's picture", killedMs, "ms", 1200);
    assert.ok(killedMs < 3000, `${killedMs} ms`);
    assert.equal((await stage.server.stream("spare"))?.standby ?? null, null);

    assert.equal((await viewer.report()).state, "connected");
    const response = await fetch(session);
    assert.ok(response.ok, `the session answers ${response.status}`);
    const metrics = await (await fetch(`${stage.server.url}/metrics`)).text();
    assert.match(metrics, /sluice_publisher_hand_overs_total\{to="backup"\} 2/);
    assert.match(metrics, /sluice_publisher_hand_overs_total\{to="primary"\} 1/);
  }),
);

test(
  "A browser stands by for an encoder, and may be sent away",
  stage.act(async () => {
    const endpoint = `${stage.server.whip("mixed")}?priority=backup`;
    const primary = await stage.ffmpeg({ source: PRIMARY, gopSeconds: 2 }, flv(stage.server.rtmp("mixed")));
    await until("the stream is live", () => stage.server.stream("mixed"));
    const backup = await stage.publisher({ endpoint, source: BACKUP, codec: "H264" });
    await until("the backup stands by", async () => (await stage.server.stream("mixed"))?.standby?.ready);
    const viewer = await stage.viewer();
    await viewer.start(stage.server.whep("mixed"));
    await viewer.sees(PRIMARY);
    if (IS_LONG) {
      // Browsers send keyframes when asked only, and pictures since the last one are kept for ten seconds.
      await measureFor(30_000);
      await viewer.reset();
      await viewer.sees(PRIMARY);
      primary.process.kill("SIGSTOP");
      const hungMs = await gapMs(viewer, PRIMARY, BACKUP);
      record("RTMP primary hangs: gap until the picture of a WHIP backup that has stood by for long", hungMs, "ms", 1200);
      assert.ok(hungMs < 3000, `${hungMs} ms`);
      await viewer.reset();
      await viewer.sees(BACKUP);
      primary.process.kill("SIGCONT");
      await gapMs(viewer, BACKUP, PRIMARY);
    }
    const api = `${stage.server.url}/api/v1/streams/mixed`;
    await viewer.reset();
    await viewer.sees(PRIMARY);
    assert.equal((await fetch(`${api}/publisher`, { method: "DELETE" })).status, 204);
    const gap = await gapMs(viewer, PRIMARY, BACKUP);
    record("RTMP primary kicked: gap until the WHIP backup's picture", gap, "ms", 1200);
    assert.ok(gap < 3000, `${gap} ms`);
    assert.equal((await fetch(`${api}/standby`, { method: "DELETE" })).status, 404);
    assert.equal(await backup.stop(), 200);

    const refused = await fetch(`${stage.server.whip("mixed")}?priority=first`, {
      method: "POST",
      headers: { "content-type": "application/sdp" },
      body: "v=0\r\n",
    });
    assert.equal(refused.status, 400);
    assert.match(await refused.text(), /bad-priority/);
  }),
);
