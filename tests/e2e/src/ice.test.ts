// ICE restarts under a running stream.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Publisher, Viewer } from "./support/browser.ts";
import { record } from "./support/figures.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

// More workers than one: a restarted client comes from another port, which leads to another worker.
const stage = Stage.set({ WEBRTC__WORKERS: "4" });

const RESTARTS = 3;

interface Interruption {
  /** As the browser counts freezes: a picture on the screen for three times its time, or 150 ms longer. */
  freezes: number;
  frozenMs: number;
  /** Between two pictures shown. */
  longestGapMs: number;
}

/** Restarts ICE some times, one after the other, while the viewer watches; gives what the viewer had of it. */
async function restartUnder(viewer: Viewer, who: Viewer | Publisher): Promise<Interruption> {
  const before = (await viewer.report()).stats;
  await viewer.reset();
  let side = await who.side();
  for (let restart = 0; restart < RESTARTS; restart += 1) {
    const name = await who.restartIce();
    assert.notEqual(name, side?.ufrag);
    await until("the new pair carries the media", async () => (await who.side())?.ufrag === name);
    const moved = await who.side();
    assert.notEqual(moved?.port, side?.port, "the restart kept its socket, and proves nothing");
    side = moved;
    await measureFor(1000);
  }
  const { shown, stats } = await viewer.report();
  const gaps = shown.slice(1).map(({ atMs }, index) => atMs - (shown[index]?.atMs ?? atMs));
  assert.ok(stats.framesDecoded > before.framesDecoded + 20 * RESTARTS, "pictures went on");
  return {
    freezes: stats.freezeCount - before.freezeCount,
    frozenMs: 1000 * (stats.totalFreezesSeconds - before.totalFreezesSeconds),
    longestGapMs: Math.max(...gaps),
  };
}

/** Once more when there was a freeze: a machine that is busy elsewhere freezes anybody's picture. */
async function restartUndisturbed(viewer: Viewer, who: Viewer | Publisher): Promise<Interruption> {
  const first = await restartUnder(viewer, who);
  return first.freezes === 0 ? first : restartUnder(viewer, who);
}

async function isThere(url: string): Promise<void> {
  assert.equal((await fetch(url)).status, 204, "the session is not there any more");
}

for (const codec of ["H264", "VP8"]) {
  test(
    `A viewer restarts ICE while it watches ${codec}: the same session, no freeze`,
    stage.act(async () => {
      const stream = `viewer-${codec}`;
      await stage.publisher({ endpoint: stage.server.whip(stream), source: 1, codec });
      const viewer = await stage.viewer();
      const url = await viewer.start(stage.server.whep(stream));
      await viewer.sees(1);
      const had = await restartUndisturbed(viewer, viewer);
      record(`a viewer's ICE restart under ${codec}: longest time between two pictures`, had.longestGapMs, "ms", 200);
      assert.ok(had.frozenMs < 500, JSON.stringify(had));
      await isThere(url);
      assert.equal((await stage.server.stream(stream))?.viewers.length, 1);
    }),
  );
}

test(
  "A publisher restarts ICE while it is watched: the same session, no freeze",
  stage.act(async () => {
    const publisher = await stage.publisher({ endpoint: stage.server.whip("publisher"), source: 2, codec: "H264" });
    const session = (await stage.server.stream("publisher"))?.publisher?.session;
    const viewer = await stage.viewer();
    const url = await viewer.start(stage.server.whep("publisher"));
    await viewer.sees(2);
    const had = await restartUndisturbed(viewer, publisher);
    record("a publisher's ICE restart: longest time between two pictures", had.longestGapMs, "ms", 200);
    assert.ok(had.frozenMs < 500, JSON.stringify(had));
    assert.equal((await stage.server.stream("publisher"))?.publisher?.session, session);
    await isThere(url);
  }),
);

test(
  "Restarts that overtake each other end with the last one, and media goes on",
  stage.act(async () => {
    await stage.publisher({ endpoint: stage.server.whip("race"), source: 3, codec: "VP8" });
    const viewer = await stage.viewer();
    const url = await viewer.start(stage.server.whep("race"));
    await viewer.sees(3);
    let last = "";
    for (let restart = 0; restart < 10; restart += 1) last = await viewer.restartIce();
    await until("the last pair carries the media", async () => (await viewer.side())?.ufrag === last);
    await viewer.reset();
    await viewer.sees(3);
    await isThere(url);
  }),
);
