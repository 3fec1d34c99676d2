// Two nodes: one sends to the other what it has no room for.

import assert from "node:assert/strict";
import { test } from "node:test";
import { flv } from "./support/ffmpeg.ts";
import { Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { SECRET, sign } from "./support/token.ts";
import { until } from "./support/wait.ts";

const guarded = { AUTH__MODE: "jwt", AUTH__HS256_SECRET: SECRET };
const stage = Stage.set(guarded);

const subscriber = sign({ stream: "show", can: ["subscribe"] });
const publisher = sign({ stream: "show", can: ["publish"] });
const admin = sign({ stream: "*", can: ["admin"] });

test(
  "A full node sends a viewer to the other one, token and all, says so to probes, and takes the next one again",
  stage.act(async () => {
    const other = stage.server;
    const node = await Server.start({ ...guarded, WEBRTC__SESSIONS_MAX: "1", HTTP__OVERFLOW_TO: other.url });
    stage.closeLater(async () => void (await node.stop()));
    for (const [source, server] of [[1, node], [2, other]] as const) {
      await stage.ffmpeg({ source, gopSeconds: 2 }, flv(server.rtmp("show", publisher)));
      await until("the stream is live", () => server.stream("show", admin));
    }
    const readiness = async (): Promise<number> => (await fetch(`${node.url}/readyz`)).status;
    const first = await stage.viewer();
    const kept = await first.watch(node.whep("show"), subscriber);
    assert.ok(kept.startsWith(`${node.url}/whep/show/`), kept);
    await first.sees(1);
    assert.equal(await readiness(), 503);

    const second = await stage.viewer();
    const sent = await second.watch(node.whep("show"), subscriber);
    assert.ok(sent.startsWith(`${other.url}/whep/show/`), sent);
    await second.sees(2);
    assert.equal(await node.metric("sluice_sessions_total", 'protocol="whep",outcome="redirected"'), 1);

    const headers = { authorization: `Bearer ${subscriber}`, "content-type": "application/sdp" };
    const asked = await fetch(node.whep("show"), { method: "POST", headers, redirect: "manual" });
    assert.equal(asked.status, 307);
    assert.equal(asked.headers.get("location"), `${other.whep("show")}?redirected=1`);
    const again = await fetch(`${node.whep("show")}?redirected=1`, { method: "POST", headers, redirect: "manual" });
    assert.equal(again.status, 503, "to and fro");
    assert.notEqual(again.headers.get("retry-after"), null);

    assert.equal(await first.stop(subscriber), 200);
    assert.equal(await readiness(), 200);
  }),
);
