// A stream is sent on to other servers by WHIP (relay.push with an http:// or https:// URL).

import assert from "node:assert/strict";
import { test } from "node:test";
import { flv } from "./support/ffmpeg.ts";
import { record } from "./support/figures.ts";
import { assertPlays, soundAfterPictureMs, watchUndisturbed } from "./support/measure.ts";
import { freePort, type Push, Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { SECRET, sign } from "./support/token.ts";
import { until } from "./support/wait.ts";

const stage = Stage.set();

/** A server that sends streams on to these targets. */
async function sender(...targets: string[]): Promise<Server> {
  const server = await Server.start({ RELAY__PUSH: targets.join(",") });
  stage.closeLater(async () => void (await server.stop()));
  return server;
}

const push = async (server: Server, stream: string, at = 0): Promise<Push | undefined> => (await server.stream(stream))?.pushes[at];

test(
  "What comes by RTMP is sent on by WHIP with a token, is seen and heard there, and survives the loss of the other server",
  stage.act(async () => {
    const guarded = { AUTH__MODE: "jwt", AUTH__HS256_SECRET: SECRET, HTTP__LISTEN: `127.0.0.1:${await freePort()}` };
    let far = await Server.start(guarded);
    stage.closeLater(() => far.process.kill("SIGKILL") as unknown as void);
    const bearer = sign({ stream: "copy", can: ["publish"] });
    const watcher = sign({ stream: "copy", can: ["subscribe", "admin"] });
    const near = await sender(`cam* ${far.whip("copy")} bearer=${bearer}`, `cam* ${far.whip("copy")} bearer=not.a.token`);
    await stage.ffmpeg({ source: 1, gopSeconds: 1 }, flv(near.rtmp("cam1")));
    const copy = await until("the copy is live", () => far.stream("copy", watcher), { withinMs: 15_000 });
    assert.equal(copy.publisher?.protocol, "whip");
    const viewer = await stage.viewer();
    await viewer.start(`${far.whep("copy")}?token=${watcher}`);
    await viewer.sees(1);
    const watched = await watchUndisturbed(viewer, 4000);
    assertPlays(watched, 4000);
    // The pictures of a WHIP stream do not wait for the sound, which has been made into Opus on the way.
    const apartMs = soundAfterPictureMs(watched);
    record("sent on by WHIP: sound after its picture", apartMs, "ms", 150);
    assert.ok(Math.abs(apartMs) < 250, `sound is ${apartMs} ms after its picture`);

    const live = await push(near, "cam1");
    assert.deepEqual([live?.state, live?.attempts, live?.problem], ["live", 1, null]);
    assert.ok((live?.bytes_sent ?? 0) > 10_000);
    assert.match(live?.target ?? "", /^http:\/\/127\.0\.0\.1:\d+\/…$/);
    const refused = await push(near, "cam1", 1);
    assert.equal(refused?.state, "retrying");
    assert.match(refused?.problem ?? "", /refuses the token \(401/);
    assert.match(await near.metrics(), /sluice_relays\{direction="push"\} 1/);

    // The other server dies, and comes back at the same address.
    far.process.kill("SIGKILL");
    await until("it is tried again", async () => (await push(near, "cam1"))?.state === "retrying", { withinMs: 20_000 });
    far = await Server.start(guarded);
    await until("the copy is live again", () => far.stream("copy", watcher), { withinMs: 25_000 });
    const again = await until("that is known", async () => {
      const known = await push(near, "cam1");
      return known?.state === "live" ? known : undefined;
    });
    assert.ok(again.last_failure?.reason, "what went wrong is remembered");
    const log = near.log.join("\n");
    assert.ok(!log.includes(bearer) && !log.includes("not.a.token") && !log.includes("/whip/copy"), "a token or a path is in the log");
  }),
);

test(
  "A browser's VP8 is sent on as it is, keyframes are asked for, another codec has another session, and that ends with the stream",
  stage.act(async () => {
    const far = await Server.start();
    stage.closeLater(async () => void (await far.stop()));
    const near = await sender(`room ${far.whip("copy")}`);
    await stage.publisher({ endpoint: near.whip("room"), source: 2, codec: "VP8" });
    const copy = await until("the copy is live", () => far.stream("copy"), { withinMs: 15_000 });
    assert.deepEqual(copy.tracks.map((track) => track.codec).toSorted(), ["VP8", "opus"]);
    // The other server asks for a keyframe for each viewer who comes, and gets it through.
    for (let at = 0; at < 2; at++) {
      const viewer = await stage.viewer();
      await viewer.start(far.whep("copy"));
      await viewer.sees(2, 15_000);
      const watched = await watchUndisturbed(viewer, 4000);
      assertPlays(watched, 4000);
      const apartMs = soundAfterPictureMs(watched);
      record(`a browser's stream sent on by WHIP, viewer ${at + 1}: sound after its picture`, apartMs, "ms", 150);
      assert.ok(Math.abs(apartMs) < 150, `sound is ${apartMs} ms after its picture`);
      await viewer.close();
    }
    const session = (await far.stream("copy"))?.publisher?.session;
    await stage.publisher({ endpoint: near.whip("room"), source: 3, codec: "VP8" });
    const again = await stage.viewer();
    await again.start(far.whep("copy"));
    await again.sees(3, 15_000);
    assert.equal((await far.stream("copy"))?.publisher?.session, session, "a publisher with the same codecs is sent on in the same session");
    await stage.publisher({ endpoint: near.whip("room"), source: 1, codec: "H264" });
    const other = await until("there is another session", async () => {
      const state = await far.stream("copy");
      return state?.publisher?.session !== session && state?.tracks.length === 2 ? state : undefined;
    });
    assert.deepEqual(other.tracks.map((track) => track.codec).toSorted(), ["H264", "opus"]);
    await again.sees(1, 15_000);
    assert.equal((await push(near, "room"))?.last_failure, null);
    await fetch(`${near.url}/api/v1/streams/room/publisher`, { method: "DELETE" });
    await until("the copy has ended", async () => (await far.stream("copy")) === undefined, { withinMs: 20_000 });
    assert.equal(await far.metric("sluice_sessions_total", 'protocol="whip",outcome="ended"'), 2);
  }),
);
