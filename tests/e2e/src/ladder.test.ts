// The ladder: smaller pictures of a publisher's only encoding, as layers for WebRTC viewers and as variants of HLS.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as clock from "./clock.ts";
import { StrictReader } from "./hls/reader.ts";
import type { Viewer } from "./support/browser.ts";
import { flv } from "./support/ffmpeg.ts";
import { record } from "./support/figures.ts";
import { HlsPlayer, play } from "./support/hls-player.ts";
import { assertPlays, watchUndisturbed } from "./support/measure.ts";
import { childrenOf } from "./support/processes.ts";
import type { StreamState, TrackState } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

const FFMPEG = process.env["SLUICE_FFMPEG"] ?? "ffmpeg";
const LADDER = [240, 144];
const LIKE_OBS = ["-preset", "veryfast", "-tune", "film", "-profile:v", "high", "-bf", "3", "-x264-params", "b-pyramid=normal:rc-lookahead=10"];

const stage = Stage.set({ TRANSCODE__FFMPEG: FFMPEG, TRANSCODE__LADDER: LADDER.map((rows) => `${rows}p`).join(",") });
/** Of pictures so many samples high; sides are even. */
const widthOf = (rows: number): number => Math.round((clock.WIDTH * rows) / clock.HEIGHT / 2) * 2;

async function publish(stream: string, source: number, video: string[] = []): Promise<void> {
  await stage.ffmpeg({ source, gopSeconds: 2, video }, flv(stage.server.rtmp(stream)));
  await until("the stream is live", () => stage.server.stream(stream));
}

async function ladder(stream: string): Promise<StreamState["ladder"]> {
  return (await stage.server.stream(stream))?.ladder ?? null;
}

async function layers(stream: string): Promise<TrackState["layers"]> {
  return (await stage.server.stream(stream))?.tracks.find(({ kind }) => kind === "video")?.layers ?? [];
}

/** Waits until all rungs are sent. */
async function rungs(stream: string): Promise<TrackState["layers"]> {
  return until("all rungs are there", async () => {
    const made = (await layers(stream)).filter(({ rid }) => rid !== null);
    return made.length === LADDER.length && made.every(({ active, width }) => active && width !== null) && made;
  });
}

async function choose(session: string, body: object): Promise<void> {
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${session}/layer`, { method: "POST", headers, body: JSON.stringify(body) });
  assert.equal(response.status, 200, await response.text());
}

async function shows(viewer: Viewer, wanted: number): Promise<number> {
  const began = Date.now();
  await until(`pictures ${wanted} wide`, async () => (await viewer.report()).stats.width === wanted, { everyMs: 20 });
  return Date.now() - began;
}

/** Addresses of the variants' playlists, highest first, and their sizes. */
async function variants(url: string): Promise<{ url: string; size: string }[]> {
  const text = await (await fetch(url)).text();
  const named = [...text.matchAll(/RESOLUTION=(\d+x\d+)[^\n]*\n([^\n]+)/g)];
  return named.map(([, size = "", uri = ""]) => ({ url: new URL(uri, url).href, size }));
}

test(
  "a WebRTC viewer goes down the ladder and up again without a break, and nothing is encoded for nobody",
  stage.act(async () => {
    await publish("watched", 1);
    assert.equal(await ladder("watched"), null, "nobody is there");
    const viewer = await stage.viewer();
    const session = await viewer.start(stage.server.whep("watched"));
    await viewer.sees(1);
    const made = await rungs("watched");
    assert.deepEqual(made.map(({ rid, width, height, role }) => [rid, width, height, role]), LADDER.map((rows) => [`${rows}p`, widthOf(rows), rows, "made"]));
    await shows(viewer, clock.WIDTH);
    await measureFor(2000);
    await viewer.reset();
    const before = (await viewer.report()).stats;
    const tookMs: number[] = [];
    for (const rid of ["240p", "144p", "240p"]) {
      await choose(session, { rid });
      tookMs.push(await shows(viewer, widthOf(Number.parseInt(rid))));
      await measureFor(1200);
    }
    await choose(session, {});
    tookMs.push(await shows(viewer, clock.WIDTH));
    record("ladder: rung chosen to its picture decoded, the slowest of 4, keyframes every 2 s", Math.max(...tookMs), "ms", 2500);
    const { stats, shown, unreadable } = await viewer.report();
    assert.equal(stats.packetsLost, before.packetsLost, "no gap in numbers");
    assert.equal(stats.pliCount, before.pliCount, "the decoder missed nothing");
    assert.ok(unreadable <= shown.length / 20, `${unreadable} of ${shown.length} pictures were damaged`);
    const gapsMs = shown.slice(1).map((frame, at) => frame.atMs - (shown[at]?.atMs ?? 0));
    record("ladder: longest time between two pictures over 4 switches", Math.max(...gapsMs), "ms", 200);
    assert.ok(Math.max(...gapsMs) < 700, `the picture stood still for ${Math.max(...gapsMs)} ms`);

    await choose(session, { rid: "240p" });
    await shows(viewer, widthOf(240));
    await measureFor(1000);
    const watched = await watchUndisturbed(viewer, 8000);
    assertPlays(watched, 8000);
    record("ladder: latency p50 of a rung", watched.p50Ms, "ms", 500);
    record("ladder: encoding takes", (await ladder("watched"))?.latency_ms ?? Infinity, "ms", 150);
    record("ladder: share of a core, two rungs of 640x360", (await ladder("watched"))?.cpu_share ?? Infinity, "", 0.5);
    assert.deepEqual((await stage.server.stream("watched"))?.reencoding, null, "there are no B-frames");

    await viewer.stop();
    await until("nothing is encoded any more", async () => (await ladder("watched")) === null, { withinMs: 20_000 });
    assert.deepEqual(childrenOf(stage.server.pid), []);
    assert.ok((await layers("watched")).every(({ rid, active }) => active === (rid === null)));
  }),
);

test(
  "HLS has the rungs as variants from the first playlist on, cut where the original is, and a player plays each",
  stage.act(async () => {
    await publish("played", 2);
    await measureFor(2500);
    const began = Date.now();
    const listed = await variants(stage.server.hls("played"));
    record("ladder: first multivariant playlist, encoder not running", Date.now() - began, "ms", 1500);
    const sizes = [clock.HEIGHT, ...LADDER].map((rows) => `${widthOf(rows)}x${rows}`);
    assert.deepEqual(listed.map(({ size }) => size), sizes);
    const findings = await Promise.all(listed.map(({ url }) => new StrictReader(url).run(12_000)));
    for (const { faults, segments } of findings) {
      assert.deepEqual(faults.slice(0, 20), []);
      assert.ok(segments >= 2, `${segments} segments`);
    }
    const [original, ...others] = findings.map(({ playlist }) => playlist.segments.filter(({ seconds }) => seconds !== undefined));
    for (const other of others) {
      const shared = (original ?? []).filter(({ number }) => other.some((segment) => segment.number === number));
      assert.ok(shared.length >= 3, `${shared.length} segments in common`);
      for (const { number, seconds = 0, programTimeMs } of shared.slice(1)) {
        const same = other.find((segment) => segment.number === number);
        assert.ok(Math.abs((same?.seconds ?? 0) - seconds) < 0.05, `segment ${number}: ${same?.seconds} s, the original's ${seconds} s`);
        if (programTimeMs !== undefined && same?.programTimeMs !== undefined) {
          assert.ok(Math.abs(same.programTimeMs - programTimeMs) < 50, `segment ${number}: ${same.programTimeMs - programTimeMs} ms later`);
        }
      }
    }
    const player = await HlsPlayer.open(stage.pages);
    stage.closeLater(() => player.close());
    await player.start(stage.server.hls("played"));
    await player.sees(2);
    assert.equal((await player.report()).levels.length, sizes.length);
    for (const rows of LADDER.toReversed()) {
      await player.lockLevel(rows);
      await until(`hls.js shows ${rows} rows`, async () => (await player.report()).width === widthOf(rows), { withinMs: 20_000 });
      await measureFor(2000);
      const played = await play(player, 4000);
      assert.ok(played.report.stalls <= 1, JSON.stringify(played.report.errors));
    }
  }),
);

test(
  "a stream with B-frames has both: its own size without them for WebRTC, and rungs; HLS keeps the original",
  stage.act(async () => {
    await publish("reordered", 3, LIKE_OBS);
    const viewer = await stage.viewer();
    const session = await viewer.start(stage.server.whep("reordered"));
    await viewer.sees(3);
    await rungs("reordered");
    await until("the original is replaced", async () => (await layers("reordered"))[0]?.role === "replaced");
    await shows(viewer, clock.WIDTH);
    await choose(session, { rid: "144p" });
    await shows(viewer, widthOf(144));
    await measureFor(2000);
    assertPlays(await watchUndisturbed(viewer, 6000), 6000);
    const listed = await variants(stage.server.hls("reordered"));
    assert.equal(listed.length, 1 + LADDER.length);
    const [original] = await Promise.all(listed.map(({ url }) => new StrictReader(url).run(8000)));
    assert.deepEqual(original?.faults.slice(0, 20), []);
    assert.equal(childrenOf(stage.server.pid).length, 2, "one process for each purpose");
  }),
);

test(
  "of a browser's only encoding rungs are made as well; of what is not H.264 they are not, and the API says so",
  stage.act(async () => {
    await stage.publisher({ endpoint: stage.server.whip("browser"), source: 4, codec: "H264" });
    const viewer = await stage.viewer();
    const session = await viewer.start(stage.server.whep("browser"));
    await viewer.sees(4);
    await rungs("browser");
    await choose(session, { rid: "240p" });
    await shows(viewer, widthOf(240));
    await measureFor(1500);
    assertPlays(await watchUndisturbed(viewer, 6000), 6000);
    const listed = await variants(stage.server.hls("browser"));
    assert.equal(listed.length, 1 + LADDER.length, JSON.stringify(listed));
    const findings = await Promise.all(listed.map(({ url }) => new StrictReader(url).run(8000)));
    assert.deepEqual(findings.flatMap(({ faults }) => faults).slice(0, 20), []);

    await stage.publisher({ endpoint: stage.server.whip("other"), source: 5, codec: "VP8" });
    const other = await stage.viewer();
    await other.start(stage.server.whep("other"));
    await other.sees(5);
    await until("that is said", async () => ((await stage.server.stream("other"))?.notices ?? []).some(({ code }) => code === "ladder-codec"));
    assert.equal((await layers("other")).length, 1);
  }),
);

test(
  "tracks that a publisher sends beside its first (multitrack) are layers as well, without an encoder here",
  stage.act(async () => {
    const [, rows = 0] = LADDER;
    await publish("tracks", 2, ["-map", "0:v", "-s:v:1", `${widthOf(rows)}x${rows}`, "-b:v:1", "300k"]);
    const viewer = await stage.viewer();
    const session = await viewer.start(stage.server.whep("tracks"));
    await viewer.sees(2);
    const known = await until("both are there", async () => (await layers("tracks")).length === 2 && layers("tracks"));
    assert.deepEqual(known.map(({ rid, width, role }) => [rid, width, role]), [[null, clock.WIDTH, "sent"], ["track-1", widthOf(rows), "sent"]]);
    await choose(session, { rid: "track-1" });
    await shows(viewer, widthOf(rows));
    await measureFor(2000);
    assertPlays(await watchUndisturbed(viewer, 6000), 6000);
    await choose(session, {});
    await shows(viewer, clock.WIDTH);
    const listed = await variants(stage.server.hls("tracks"));
    assert.deepEqual(listed.map(({ size }) => size), [clock.HEIGHT, rows].map((height) => `${widthOf(height)}x${height}`));
    const findings = await Promise.all(listed.map(({ url }) => new StrictReader(url).run(8000)));
    assert.deepEqual(findings.flatMap(({ faults }) => faults).slice(0, 20), []);
    const { ladder: made, notices } = (await stage.server.stream("tracks")) ?? {};
    assert.deepEqual([made, notices], [null, []], "it has sizes of its own");
  }),
);

test(
  "when the encoder is killed, viewers of a rung have the publisher's own picture until another has begun",
  stage.act(async () => {
    await publish("killed", 1);
    const viewer = await stage.viewer();
    const session = await viewer.start(stage.server.whep("killed"));
    await viewer.sees(1);
    await rungs("killed");
    await choose(session, { rid: "144p" });
    await shows(viewer, widthOf(144));
    const listed = await variants(stage.server.hls("killed"));
    assert.equal(listed.length, 1 + LADDER.length);
    const reading = new StrictReader(listed[0]?.url ?? "").run(9000);
    await measureFor(2000);
    const children = childrenOf(stage.server.pid);
    assert.ok(children.length > 0, "there is a process");
    await viewer.reset();
    for (const child of children) process.kill(child, "SIGKILL");
    await shows(viewer, clock.WIDTH);
    await shows(viewer, widthOf(144));
    const { shown } = await viewer.report();
    const gapsMs = shown.map((frame, i) => frame.atMs - (shown[i - 1] ?? frame).atMs);
    record("ladder, encoder killed: longest time between two pictures", Math.max(...gapsMs), "ms", 500);
    assert.ok(Math.max(...gapsMs) < 3000, `${Math.max(...gapsMs)} ms without a picture`);
    assert.equal((await ladder("killed"))?.starts, 2);
    const through = await reading;
    assert.deepEqual(through.faults.slice(0, 20), []);
    assert.ok(through.playlist.segments.every(({ discontinuity }) => discontinuity === 0), "the original goes on as if nothing had been");
    const [original, ...others] = await Promise.all(listed.map(({ url }) => new StrictReader(url).run(5000)));
    for (const { faults, playlist } of others) {
      assert.deepEqual(faults.slice(0, 20), []);
      const last = playlist.segments.at(-1);
      const same = original?.playlist.segments.find(({ number }) => number === last?.number);
      assert.ok(Math.abs((same?.programTimeMs ?? 0) - (last?.programTimeMs ?? 0)) < 50, `a rung is in step again: ${same?.programTimeMs} ${last?.programTimeMs}`);
    }
  }),
);
