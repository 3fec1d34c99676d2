// A stream is sent on to other servers by WHIP (relay.push with an http:// or https:// URL).

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Viewer } from "./support/browser.ts";
import { FfmpegPublisher, flv } from "./support/ffmpeg.ts";
import { record } from "./support/figures.ts";
import { HlsPlayer, play, soundAfterPicture } from "./support/hls-player.ts";
import { freePort, type Push, Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { SECRET, sign } from "./support/token.ts";
import { measureFor, until } from "./support/wait.ts";

const FFMPEG = process.env["SLUICE_FFMPEG"] ?? "ffmpeg";
const stage = Stage.set();

/** A server that sends streams on to these targets. */
async function sender(...targets: string[]): Promise<Server> {
  const server = await Server.start({ RELAY__PUSH: targets.join(",") });
  stage.closeLater(async () => void (await server.stop()));
  return server;
}

/** Whatever else this machine does: half of the pictures of three seconds, and the sound. */
async function seenAndHeard(viewer: Viewer): Promise<void> {
  await viewer.reset();
  await measureFor(3000);
  const { shown, unreadable, stats } = await viewer.report();
  assert.ok(shown.length > 45, `${shown.length} pictures in 3 s: ${JSON.stringify(stats)}`);
  assert.ok(unreadable <= 1, `${unreadable} pictures were damaged`);
  assert.ok(stats.audioEnergy > 0.0005, `sound: energy ${stats.audioEnergy}`);
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
    await seenAndHeard(viewer);
    // Pictures of a WHIP stream wait for no sound; by HLS both are where the sender reports say that they belong.
    const player = await HlsPlayer.open(stage.pages);
    stage.closeLater(() => player.close());
    await player.start(far.hls("copy"), watcher);
    await player.sees(1);
    await measureFor(2000);
    const offsetMs = soundAfterPicture(await play(player, 5000));
    const apartMs = Math.min(offsetMs, 1000 - offsetMs);
    record("sent on by WHIP: sound after its picture, by the reports", apartMs, "ms", 80);
    assert.ok(apartMs < 200, `sound comes ${offsetMs} ms after the picture`);

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
      await seenAndHeard(viewer);
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

const VIDEO: Record<string, string[]> = {
  AV1: ["-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-row-mt", "1"],
  VP9: ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-row-mt", "1"],
  H265: ["-c:v", "libx265", "-preset", "ultrafast", "-tune", "zerolatency", "-x265-params", "log-level=none:bframes=0"],
};
for (const [codec, video] of Object.entries(VIDEO)) {
  test(
    `${codec} is sent on by WHIP as it is`,
    stage.act(async () => {
      const far = await Server.start();
      stage.closeLater(async () => void (await far.stop()));
      const near = await sender(`cam1 ${far.whip("copy")}`);
      const publisher = await FfmpegPublisher.show(4, FFMPEG, [
        ...["-map", "0:v", "-map", "1:a", "-ac", "2", "-ar", "48000", "-flush_packets", "1", ...video, "-g", "30", "-b:v", "1500k"],
        ...["-c:a", "aac", "-b:a", "128k", "-f", "flv", "-flvflags", "no_duration_filesize", near.rtmp("cam1")],
      ]);
      stage.closeLater(() => publisher.kill());
      const keyframes = async (): Promise<number> => (await far.stream("copy"))?.tracks.find((track) => track.kind === "video")?.keyframes ?? 0;
      await until("pictures come", async () => (await keyframes()) > 2, { withinMs: 30_000 });
      assert.deepEqual((await far.stream("copy"))?.tracks.map((track) => track.codec).toSorted(), [codec, "opus"].toSorted());
      assert.equal((await push(near, "cam1"))?.problem, null);
      if (codec === "H265") return; // Chromium cannot decode it here.
      const viewer = await stage.viewer();
      await viewer.start(far.whep("copy"));
      await viewer.sees(4, 15_000);
    }),
  );
}
