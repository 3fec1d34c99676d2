// Enhanced RTMP: newer codecs from ffmpeg, to viewers by WebRTC and HLS.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { FfmpegPublisher } from "./support/ffmpeg.ts";
import { HlsPlayer, play, soundAfterPicture } from "./support/hls-player.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

const FFMPEG = process.env["SLUICE_FFMPEG"] ?? "ffmpeg";
const stage = Stage.set();

const AAC = ["-c:a", "aac", "-b:a", "128k"];
const OPUS = ["-c:a", "libopus", "-b:a", "96k"];
const VIDEO = {
  AV1: ["-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-row-mt", "1"],
  VP9: ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-row-mt", "1"],
  // With the B-frames that it makes by itself, and pictures that refer to them.
  H265: ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:bframes=2:rc-lookahead=5:keyint=60:min-keyint=60"],
};

async function publish(stream: string, source: number, video: string[], audio: string[]): Promise<FfmpegPublisher> {
  const publisher = await FfmpegPublisher.show(source, FFMPEG, [
    ...["-map", "0:v", "-map", "1:a", "-ac", "2", "-ar", "48000", "-flush_packets", "1"],
    ...video,
    ...["-g", "60", "-b:v", "1500k", ...audio, "-f", "flv", "-flvflags", "no_duration_filesize", stage.server.rtmp(stream)],
  ]);
  stage.closeLater(() => publisher.kill());
  await until("there are pictures and sound", async () => (await stage.server.stream(stream))?.tracks.length === 2, { withinMs: 15_000 }).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${publisher.stderr.join("\n")}`);
  });
  return publisher;
}

const SEEN: { codec: keyof typeof VIDEO; audio: string[] }[] = [
  { codec: "AV1", audio: OPUS },
  { codec: "VP9", audio: AAC },
];
for (const [at, { codec, audio }] of SEEN.entries()) {
  test(
    `${codec} by RTMP is seen and heard by WebRTC`,
    stage.act(async () => {
      const [stream, source] = [`enhanced-${at}`, at + 1];
      await publish(stream, source, VIDEO[codec], audio);
      const viewer = await stage.viewer();
      await viewer.start(stage.server.whep(stream));
      await viewer.sees(source, 15_000);
      await viewer.reset();
      await measureFor(3000);
      const { shown, unreadable, stats } = await viewer.report();
      assert.ok(shown.length > 60, `${shown.length} pictures in 3 s: ${JSON.stringify(stats)}`);
      assert.equal(unreadable, 0);
      assert.ok(stats.audioEnergy > 0.0005, `sound: energy ${stats.audioEnergy}`);
      const state = await stage.server.stream(stream);
      assert.deepEqual(state?.tracks.map((track) => track.codec).toSorted(), [codec, "opus"].toSorted());
      assert.deepEqual(state?.notices, []);
    }),
  );
}

test(
  "AV1 and Opus by RTMP play by HLS, in step",
  stage.act(async () => {
    await publish("enhanced-hls", 4, VIDEO.AV1, OPUS);
    const player = await HlsPlayer.open(stage.pages);
    stage.closeLater(() => player.close());
    await player.start(stage.server.hls("enhanced-hls"));
    await player.sees(4);
    await measureFor(2000);
    const played = await play(player, 5000);
    const offsetMs = soundAfterPicture(played);
    assert.ok(Math.min(offsetMs, 1000 - offsetMs) < 200, `sound comes ${offsetMs} ms after the picture`);
    const { hls } = (await stage.server.stream("enhanced-hls")) ?? {};
    const codecs = hls?.renditions.map((rendition) => rendition.codecs.split(".")[0]).toSorted();
    assert.deepEqual(codecs, ["av01", "mp4a"]);
  }),
);

test(
  "H.265 with B-frames by RTMP is whole by HLS; a viewer by WebRTC that cannot decode it is told so",
  stage.act(async () => {
    await publish("enhanced-hevc", 5, VIDEO.H265, AAC);
    const url = stage.server.hls("enhanced-hevc");
    await until("it is packaged", async () => (await fetch(url)).ok, { withinMs: 15_000 });
    assert.match(await (await fetch(url)).text(), /CODECS="hvc1\.[^"]*,mp4a\.40\.2"/);
    const arguments_ = ["-hide_banner", "-loglevel", "error", "-xerror", "-t", "4", "-i", url, "-map", "0:v", "-progress", "pipe:1", "-f", "null", "-"];
    const decoded = await promisify(execFile)(FFMPEG, arguments_, { timeout: 30_000 });
    assert.equal(decoded.stderr, "", "decoding it is without fault");
    const frames = Number([...decoded.stdout.matchAll(/^frame=(\d+)/gm)].at(-1)?.[1]);
    assert.ok(frames >= 110, `${frames} pictures in 4 s`);

    const viewer = await stage.viewer();
    await assert.rejects(viewer.start(stage.server.whep("enhanced-hevc")), /406/);
    const { tracks = [], notices = [] } = (await stage.server.stream("enhanced-hevc")) ?? {};
    assert.ok(tracks.some((track) => track.codec === "H265"));
    assert.ok(notices.some(({ code }) => code.startsWith("b-frames-")), JSON.stringify(notices));
  }),
);
