// What holds of the server as a whole: probes, API, metrics, kicks, and a clean end.

import assert from "node:assert/strict";
import { test } from "node:test";
import { flv } from "./support/ffmpeg.ts";
import { record } from "./support/figures.ts";
import { Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { until } from "./support/wait.ts";

const stage = Stage.set();

const SERIES = [
  "sluice_streams",
  "sluice_webrtc_sessions",
  "sluice_publishers",
  "sluice_viewers",
  "sluice_rtp_packets_total",
  "sluice_rtp_bytes_total",
  "sluice_rtmp_bytes_total",
  "sluice_nack_total",
  "sluice_rtx_packets_total",
  "sluice_pli_total",
  "sluice_join_seconds",
  "sluice_forward_seconds",
  "sluice_auth_failures_total",
  "sluice_sessions_total",
];

test(
  "The API and the metrics say who publishes and who watches; both can be kicked",
  stage.act(async () => {
    const { server } = stage;
    const publisher = await stage.ffmpeg({ source: 1, gopSeconds: 2 }, flv(server.rtmp("watched")));
    await until("the stream is live", () => server.stream("watched"));
    const viewer = await stage.viewer();
    const session = await viewer.start(server.whep("watched"));
    await viewer.sees(1);

    const state = await until("the API counts the viewer", async () => {
      const now = await server.stream("watched");
      return now?.viewer_count === 1 ? now : undefined;
    });
    assert.equal(state.publisher?.protocol, "rtmp");
    assert.deepEqual(state.tracks.map((track) => track.codec.toLowerCase()).toSorted(), ["h264", "opus"]);
    const watching = state.viewers[0];
    assert.equal(watching?.connected, true);
    assert.ok(session.endsWith(watching.session), `${session} is not ${watching.session}`);
    assert.equal(await server.metric("sluice_streams"), 1);
    assert.equal(await server.metric("sluice_publishers", 'protocol="rtmp"'), 1);
    assert.equal(await server.metric("sluice_viewers", 'protocol="whep"'), 1);
    for (const direction of ["in", "out"]) {
      assert.ok((await server.metric("sluice_rtp_packets_total", `direction="${direction}"`)) > 0, direction);
      assert.ok((await server.metric("sluice_rtp_bytes_total", `direction="${direction}"`)) > 0, direction);
      assert.ok((await server.metric("sluice_rtmp_bytes_total", `direction="${direction}"`)) > 3000, direction);
    }
    assert.ok((await server.metric("sluice_join_seconds_count")) >= 1);
    const text = await server.metrics();
    for (const name of SERIES) assert.ok(text.includes(`\n# TYPE ${name.replace(/_total$/, "")} `), `${name} is missing`);

    const api = `${server.url}/api/v1/streams/watched`;
    const kickViewer = await fetch(`${api}/viewers/${watching.session}`, { method: "DELETE" });
    assert.ok(kickViewer.ok, `${kickViewer.status}`);
    await until("the viewer is gone", async () => (await server.stream("watched"))?.viewer_count === 0);
    const kickPublisher = await fetch(`${api}/publisher`, { method: "DELETE" });
    assert.ok(kickPublisher.ok, `${kickPublisher.status}`);
    await until("the publisher is gone", async () => (await server.stream("watched")) === undefined);
    await publisher.end();
  }),
);

test("Foreign pages may publish and watch: CORS on every signalling path", async () => {
  for (const path of ["/whip/a", "/whep/a", "/whep/a/00000000-0000-4000-8000-000000000000"]) {
    const response = await fetch(`${stage.server.url}${path}`, {
      method: "OPTIONS",
      headers: { origin: "https://elsewhere.example", "access-control-request-method": "POST" },
    });
    assert.ok(response.ok, `${path}: ${response.status}`);
    assert.ok(response.headers.get("access-control-allow-origin"), path);
  }
  const refused = await fetch(stage.server.whep("nobody"), {
    method: "POST",
    headers: { origin: "https://elsewhere.example", "content-type": "application/sdp" },
    body: "v=0\r\n",
  });
  const exposed = (refused.headers.get("access-control-expose-headers") ?? "").toLowerCase();
  for (const name of ["location", "etag", "link", "retry-after"]) assert.ok(exposed.includes(name), `${name}: ${exposed}`);
});

test("Names that no stream may have are refused with the reason", async () => {
  for (const name of [".hidden", "a%20b", "a".repeat(129), "%F0%9F%A6%80"]) {
    const response = await fetch(stage.server.whip(name), {
      method: "POST",
      headers: { "content-type": "application/sdp" },
      body: "v=0\r\n",
    });
    const problem = (await response.json()) as { detail?: string };
    assert.equal(response.status, 400, name);
    assert.ok(problem.detail, name);
  }
});

test(
  "SIGTERM ends every session cleanly within 5 s: RTMP is told, WebRTC peers get their goodbye",
  stage.act(async () => {
    const server = await Server.start();
    let stoppedMs: number | undefined;
    stage.closeLater(async () => {
      if (stoppedMs === undefined) await server.stop();
    });
    const rtmp = await stage.ffmpeg({ source: 1, gopSeconds: 2 }, flv(server.rtmp("one")));
    const whip = await stage.publisher({ endpoint: server.whip("two"), source: 2 });
    await until("both are live", async () => (await server.stream("one")) && (await server.stream("two")));
    const viewer = await stage.viewer();
    await viewer.start(server.whep("two"));
    await viewer.sees(2);

    stoppedMs = await server.stop();
    record("SIGTERM to the end, with sessions", stoppedMs, "ms", 5000);
    assert.ok(stoppedMs < 6000, `${stoppedMs} ms`);
    await rtmp.end();
    // By consent alone they would need many seconds to notice.
    await until("the viewer notices", async () => (await viewer.report()).dtls === "closed", { withinMs: 1000 });
    await until("the publisher notices", async () => (await whip.report()).dtls === "closed", { withinMs: 1000 });
  }),
);

test("Open doors on a public address are refused, with the two ways out", async () => {
  await assert.rejects(Server.start({ HTTP__LISTEN: "0.0.0.0:0" }), (error: Error) => {
    assert.match(error.message, /auth\.mode/);
    assert.match(error.message, /auth\.allow_open/);
    return true;
  });
});
