// What encoders send by RTMP: profiles, B-frames, pyramids, every kind of sound. Viewers see clean pictures and hear it, or are told why not.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as clock from "./clock.ts";
import { flv } from "./support/ffmpeg.ts";
import { IS_LONG } from "./support/length.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

const stage = Stage.set({ TRANSCODE__FFMPEG: process.env["SLUICE_FFMPEG"] ?? "ffmpeg" });

/** Black and white cells stay that, so that even two encoders leave 55 dB; one cell of another picture makes it 16. */
const PSNR_MIN_DB = 45;

interface Encoding {
  name: string;
  arguments: string[];
}

interface Sound extends Encoding {
  /** What is said of sound that cannot be taken. */
  refusal?: RegExp;
  isHeard: boolean;
}

function video(profile: string, bFrames: number, pyramid: "none" | "normal"): Encoding {
  const tune = bFrames === 0 ? [] : ["-tune", "film"];
  const params = ["-x264-params", `b-pyramid=${pyramid}:rc-lookahead=10`];
  return {
    name: `${profile}, ${bFrames} B-frames${bFrames > 1 ? `, pyramid ${pyramid}` : ""}`,
    arguments: ["-preset", "veryfast", ...tune, "-profile:v", profile, "-bf", String(bFrames), ...params],
  };
}

const VIDEO: Encoding[] = [
  video("baseline", 0, "none"),
  ...["main", "high"].flatMap((profile) => [
    video(profile, 0, "none"),
    ...[2, 4].flatMap((bFrames) => [video(profile, bFrames, "none"), video(profile, bFrames, "normal")]),
  ]),
];

function aac(rateHz: number, channels: number): Sound {
  return { name: `AAC ${rateHz} Hz, ${channels} channels`, arguments: ["-c:a", "aac", "-ar", String(rateHz), "-ac", String(channels)], isHeard: true };
}

const SOUND: Sound[] = [
  ...[44_100, 48_000].flatMap((rateHz) => [1, 2, 6].map((channels) => aac(rateHz, channels))),
  { name: "MP3", arguments: ["-c:a", "libmp3lame", "-ar", "44100"], isHeard: false, refusal: /MP3.*AAC/ },
  { name: "no sound", arguments: ["-an"], isHeard: false },
];

/** Every one of both with some of the other; all with all for who has the time. */
const COMBINATIONS: [Encoding, Sound][] = IS_LONG
  ? VIDEO.flatMap((pictures) => SOUND.map((sound): [Encoding, Sound] => [pictures, sound]))
  : VIDEO.map((pictures, at): [Encoding, Sound] => [pictures, SOUND[at % SOUND.length] as Sound]);

for (const [at, [pictures, sound]] of COMBINATIONS.entries()) {
  test(
    `${pictures.name}; ${sound.name}`,
    stage.act(async () => {
      const [stream, source] = [`encoding-${at}`, at % 16];
      const [, , , , ...output] = flv(stage.server.rtmp(stream));
      const publisher = await stage.ffmpeg({ source, gopSeconds: 2, video: pictures.arguments }, [...sound.arguments, ...output]);
      await until("the stream is live", () => stage.server.stream(stream)).catch((error: unknown) => {
        throw new Error(`${String(error)}\n${publisher.stderr.join("\n")}`);
      });
      const viewer = await stage.viewer();
      await viewer.start(stage.server.whep(stream));
      await viewer.sees(source);
      // The first of a stream with B-frames are those without them.
      const hasBFrames = !pictures.name.includes(" 0 B");
      if (hasBFrames) await until("it is encoded anew", async () => (await stage.server.stream(stream))?.reencoding?.latency_ms != null);
      await measureFor(1000);
      await viewer.reset();
      const ratios = await viewer.fidelity(40);
      const { unreadable, shown, stats } = await viewer.report();
      const worst = Math.min(...ratios);
      assert.ok(worst > PSNR_MIN_DB, `PSNR of ${ratios.map((ratio) => ratio.toFixed(1)).join(" ")} dB`);
      assert.equal(unreadable, 0, "pictures that cannot be read");
      assert.equal(stats.pliCount, 0, "the decoder asked for a keyframe");
      const tookMs = (shown.at(-1)?.atMs ?? 0) - (shown[0]?.atMs ?? 0);
      assert.ok(shown.length > ((clock.FPS * tookMs) / 1000) * 0.5, `${shown.length} pictures in ${tookMs} ms`);
      assert.equal(stats.audioEnergy > 0.0005, sound.isHeard, `sound: energy ${stats.audioEnergy}`);
      const { notices = [], tracks = [] } = (await stage.server.stream(stream)) ?? {};
      const codes = [...(hasBFrames ? ["b-frames-reencoded", "encoder-delay"] : []), ...(sound.refusal === undefined ? [] : ["audio-unsupported"])];
      assert.deepEqual(notices.map(({ code }) => code).toSorted(), codes.toSorted());
      if (sound.refusal !== undefined) assert.ok(notices.some(({ text }) => sound.refusal?.test(text)), JSON.stringify(notices));
      assert.deepEqual(tracks.map(({ kind }) => kind).toSorted(), sound.isHeard ? ["audio", "video"] : ["video"]);
    }),
  );
}
