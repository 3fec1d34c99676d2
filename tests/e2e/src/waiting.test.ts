// Viewers who come before the publisher, where the server lets them wait.

import assert from "node:assert/strict";
import { test } from "node:test";
import { flv } from "./support/ffmpeg.ts";
import { Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { until } from "./support/wait.ts";

const stage = Stage.set({ WHEP__NOT_LIVE: "wait" });

test(
  "A viewer who came first sees the publisher's first keyframe, in the session that waited",
  stage.act(async () => {
    const { server } = stage;
    const viewer = await stage.viewer();
    await viewer.start(server.whep("later"));
    await until("the viewer is connected", async () => (await viewer.report()).state === "connected");
    assert.equal(await server.stream("later"), undefined, "nobody publishes");

    // No second keyframe while the test runs.
    await stage.ffmpeg({ source: 3, gopSeconds: 60 }, flv(server.rtmp("later")));
    await until("the picture is shown", async () => (await viewer.framesOf(3)) > 30);
    const { stats, state } = await viewer.report();
    assert.equal(state, "connected");
    assert.equal(stats.keyFramesDecoded, 1);
    assert.ok(stats.audioEnergy > 0, "sound too");
    assert.equal((await server.stream("later"))?.viewers.length, 1);
    assert.equal(await server.metric("sluice_sessions_total", 'protocol="whep"'), 0, "no session has ended");
  }),
);

test(
  "A viewer who waits in vain is let go after the time that is set, and counted",
  stage.act(async () => {
    const server = await Server.start({ WHEP__NOT_LIVE: "wait", WHEP__WAIT_MAX_S: "10" });
    stage.closeLater(async () => void (await server.stop()));
    const viewer = await stage.viewer();
    await viewer.start(server.whep("never"));
    await until("the viewer is connected", async () => (await viewer.report()).state === "connected");
    const unserved = (): Promise<number> =>
      server.metric("sluice_sessions_total", 'protocol="whep",outcome="unserved"');
    await until("the session is counted as unserved", async () => (await unserved()) === 1, { withinMs: 30_000 });
    await until("the viewer is told by DTLS", async () => (await viewer.report()).dtls === "closed");
  }),
);
