import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:http2";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import { read, type Playlist } from "./hls/playlist.ts";
import { StrictReader, type Findings } from "./hls/reader.ts";
import { flv, type FfmpegPublisher } from "./support/ffmpeg.ts";
import { percentile, record } from "./support/figures.ts";
import { HlsPlayer, play, soundAfterPicture } from "./support/hls-player.ts";
import { IS_LONG } from "./support/length.ts";
import { Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { SECRET, seconds, sign } from "./support/token.ts";
import { measureFor, until } from "./support/wait.ts";

const stage = Stage.set();
const run = promisify(execFile);
const FFMPEG = process.env["SLUICE_FFMPEG"] ?? "ffmpeg";
/** For how long latency is to hold: a minute when somebody has the time, a sixth of it in every run. */
const HELD_MS = IS_LONG ? 60_000 : 10_000;

async function publish(stream: string, source: number, video: string[] = [], server = stage.server): Promise<FfmpegPublisher> {
  const publisher = await stage.ffmpeg({ source, gopSeconds: 2, video }, flv(server.rtmp(stream)));
  await until("the stream is live", () => server.stream(stream)).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${publisher.stderr.join("\n")}`);
  });
  return publisher;
}

async function player(): Promise<HlsPlayer> {
  const opened = await HlsPlayer.open(stage.pages);
  stage.closeLater(() => opened.close());
  return opened;
}

/** The playlists that the multivariant one names, as URLs. */
async function renditions(url: string): Promise<string[]> {
  const response = await fetch(url);
  const text = await response.text();
  assert.equal(response.status, 200, text);
  const named = [...text.matchAll(/URI="([^"]+)"|^([^#\n].*)$/gm)].map((match) => match[1] ?? match[2] ?? "");
  return named.map((uri) => new URL(uri, url).href);
}

/** No fault; and what was waited for came as often as parts do. */
function assertStrict(findings: Findings[], forMs: number): void {
  for (const { faults, parts, segments, blockedMs } of findings) {
    assert.deepEqual(faults.slice(0, 20), [], `${faults.length} faults`);
    assert.ok(parts >= forMs / 200 / 2, `${parts} parts in ${forMs} ms`);
    assert.ok(segments >= 2, `${segments} segments`);
    assert.ok(percentile(blockedMs, 0.5) > 50, `requests do not block: ${percentile(blockedMs, 0.5)} ms`);
  }
}

const PUBLISHERS: { name: string; begin: (stream: string, source: number) => Promise<unknown> }[] = [
  { name: "RTMP", begin: (stream, source) => publish(stream, source) },
  {
    name: "RTMP with B-frames",
    begin: (stream, source) => publish(stream, source, ["-tune", "film", "-profile:v", "high", "-bf", "2", "-rc-lookahead", "10"]),
  },
  { name: "WHIP", begin: (stream, source) => stage.publisher({ endpoint: stage.server.whip(stream), source, codec: "H264" }) },
];
for (const [index, { name, begin }] of PUBLISHERS.entries()) {
  test(
    `hls.js plays ${name}: soon, close behind, without a stall, with sound`,
    stage.act(async () => {
      const [stream, source] = [`hls-${index}`, index + 1];
      await begin(stream, source);
      await measureFor(3000);
      const cold = await player();
      await cold.start(stage.server.hls(stream));
      await cold.sees(source);
      record(`HLS, ${name}: first picture for the first viewer`, (await cold.report()).firstPictureMs ?? Infinity, "ms", 1500);
      const warm = await player();
      await warm.start(stage.server.hls(stream));
      await warm.sees(source);
      const firstMs = (await warm.report()).firstPictureMs ?? Infinity;
      record(`HLS, ${name}: first picture`, firstMs, "ms", 1500);
      await warm.close();
      await measureFor(2000);
      const played = await play(cold, HELD_MS);
      record(`HLS, ${name}: latency p50 over ${HELD_MS / 1000} s`, played.p50Ms, "ms", 2000);
      record(`HLS, ${name}: latency p95 over ${HELD_MS / 1000} s`, played.p95Ms, "ms", 2000);
      record(`HLS, ${name}: stalls in ${HELD_MS / 1000} s`, played.report.stalls, "stalls", 0);
      assert.ok(played.p50Ms < 3000, `${played.p50Ms} ms behind`);
      assert.ok(firstMs < 4000, `${firstMs} ms to the first picture`);
      assert.ok(played.report.stalls <= 1, JSON.stringify(played.report.errors));
      const offsetMs = soundAfterPicture(played);
      record(`HLS, ${name}: sound after picture`, Math.min(offsetMs, 1000 - offsetMs), "ms", 80);
      assert.ok(Math.min(offsetMs, 1000 - offsetMs) < 200, `sound comes ${offsetMs} ms after the picture`);
      const state = await stage.server.stream(stream);
      assert.deepEqual(state?.hls?.renditions.map(({ kind }) => kind).toSorted(), ["audio", "video"]);
      assert.ok((await stage.server.metric("sluice_viewers", 'protocol="hls"')) >= 1);
    }),
  );
}

test(
  "a strict reader finds no fault in what RTMP and WHIP become",
  stage.act(async () => {
    await publish("strict-rtmp", 1);
    await stage.publisher({ endpoint: stage.server.whip("strict-whip"), source: 2, codec: "H264" });
    const urls = (await Promise.all(["strict-rtmp", "strict-whip"].map((stream) => renditions(stage.server.hls(stream))))).flat();
    assert.equal(urls.length, 4);
    const findings = await Promise.all(urls.map((url) => new StrictReader(url).run(12_000)));
    assertStrict(findings, 12_000);
  }),
);

test(
  "hls.js plays through the wrap of FLV's times; 29.97 pictures a second are told as that",
  stage.act(async () => {
    // ffmpeg's muxer writes 31 bits of milliseconds.
    const untilWrapS = 8;
    const publisher = await publish("wraps", 2, ["-r", "30000/1001", "-output_ts_offset", String(2 ** 31 / 1000 - untilWrapS)]);
    const opened = await player();
    await opened.start(stage.server.hls("wraps"));
    await opened.sees(2);
    const beganMs = Date.now();
    const played = await play(opened, 10_000);
    const wrappedMs = publisher.startedAtMs + untilWrapS * 1000;
    assert.ok(beganMs < wrappedMs && wrappedMs < Date.now() - played.p95Ms, `${wrappedMs - beganMs} ms from the beginning to the wrap`);
    assert.equal(played.report.stalls, 0, JSON.stringify(played.report.errors));
    const offsetMs = soundAfterPicture(played);
    assert.ok(Math.min(offsetMs, 1000 - offsetMs) < 200, `sound comes ${offsetMs} ms after the picture`);
    const { notices, hls } = (await stage.server.stream("wraps")) ?? {};
    assert.deepEqual(notices, [], "nothing of it was taken for a jump");
    assert.equal(hls?.renditions.find(({ kind }) => kind === "video")?.frame_rate, 29.97);
  }),
);

test(
  "delta updates are the whole, in a window that viewers may go back in",
  stage.act(async () => {
    const server = await Server.start({ HLS__SEGMENT_S: "1", HLS__DVR_S: "60", HLS__ALWAYS_ON: "true" });
    stage.closeLater(async () => void (await server.stop()));
    await stage.ffmpeg({ source: 1, gopSeconds: 1 }, flv(server.rtmp("dvr")));
    await until("a segment is there", async () => ((await server.stream("dvr"))?.hls?.window_bytes ?? 0) > 0);
    await measureFor(6000);
    const findings = await Promise.all((await renditions(server.hls("dvr"))).map((url) => new StrictReader(url).run(10_000)));
    assertStrict(findings, 10_000);
    for (const { deltas, playlist } of findings) {
      assert.ok(deltas > 0, "nothing was skipped");
      assert.ok(playlist.segments.length > 12, `${playlist.segments.length} segments`);
    }
  }),
);

test(
  "a publisher that comes again, and another one with other pictures, are discontinuities that a player gets over",
  stage.act(async () => {
    const first = await publish("again", 1);
    const watching = await player();
    await watching.start(stage.server.hls("again"));
    await watching.sees(1);
    const [picturesUrl = "", ...others] = (await renditions(stage.server.hls("again"))).toReversed();
    const readers = [picturesUrl, ...others].map((url) => new StrictReader(url).run(16_000));
    await measureFor(3000);
    await first.kill();
    await publish("again", 2);
    await watching.sees(2, 15_000);
    // A takeover: with another profile, and without the first one having left.
    await stage.ffmpeg({ source: 3, gopSeconds: 1, video: ["-profile:v", "high", "-s", "320x180"] }, flv(stage.server.rtmp("again")));
    await watching.sees(3, 15_000);
    const findings = await Promise.all(readers);
    for (const { faults, playlist } of findings) {
      // While nobody publishes, nothing comes, and clocks go on.
      assert.deepEqual(faults.filter((fault) => !fault.includes("jumps by")), []);
      assert.ok(playlist.segments.at(-1)?.discontinuity === 2, `discontinuities: ${playlist.segments.at(-1)?.discontinuity}`);
    }
    await watching.reset();
    await measureFor(3000);
    const { width, shown } = await watching.report();
    assert.equal(width, 320);
    assert.ok(shown.length > 60, `${shown.length} pictures`);
  }),
);

test(
  "sound that comes late, and pictures in another codec, are gotten over",
  stage.act(async () => {
    const endpoint = stage.server.whip("changes");
    const first = await stage.publisher({ endpoint, source: 1, codec: "H264", soundLater: true });
    const early = await player();
    await early.start(stage.server.hls("changes"));
    await early.sees(1);
    await measureFor(2000);
    await first.beginSound();
    await early.reset();
    await measureFor(4000);
    const { shown, stalls, errors } = await early.report();
    assert.ok(shown.length > 100, `${shown.length} pictures in 4 s; ${JSON.stringify(errors)}`);
    assert.ok(stalls <= 1, `${stalls} stalls`);
    const late = await player();
    await late.start(stage.server.hls("changes"));
    await late.sees(1);
    await measureFor(2000);
    await play(late, 3000);
    // A takeover, by a browser that sends VP9.
    await stage.publisher({ endpoint, source: 2, codec: "VP9" });
    for (const watching of [early, late]) await watching.sees(2, 15_000);
    await measureFor(2000);
    await play(late, 4000);
    const newcomer = await player();
    await newcomer.start(stage.server.hls("changes"));
    await newcomer.sees(2);
    assert.match((await newcomer.report()).levels[0]?.codecs ?? "", /^vp09/);
  }),
);

test(
  "ffmpeg plays it to a file: timestamps go on without gaps",
  stage.act(async () => {
    await publish("file", 1);
    const folder = mkdtempSync(path.join(tmpdir(), "sluice-hls-"));
    stage.closeLater(() => rmSync(folder, { recursive: true, force: true }));
    const file = path.join(folder, "out.mp4");
    await run(FFMPEG, ["-loglevel", "error", "-i", stage.server.hls("file"), "-t", "8", "-c", "copy", file], { timeout: 40_000 });
    // One line per packet: stream, decode time, presentation time, duration; before them each stream's time base.
    const { stdout } = await run(FFMPEG, ["-loglevel", "error", "-i", file, "-map", "0", "-c", "copy", "-f", "framecrc", "-"]);
    const lines = stdout.split("\n");
    for (const [stream, frameMs] of [1000 / 30, (1000 * 1024) / 48_000].entries()) {
      const [, base = ""] = lines.find((line) => line.startsWith(`#tb ${stream}: `))?.split(": ") ?? [];
      const [over, under] = base.split("/").map(Number);
      const packets = lines.filter((line) => line.startsWith(`${stream},`)).map((line) => line.split(",").map(Number));
      const times = packets.map((packet) => ((packet[1] ?? Number.NaN) * 1000 * (over ?? Number.NaN)) / (under ?? Number.NaN));
      const steps = times.slice(1).map((time, at) => time - (times[at] ?? 0));
      assert.ok(times.length > 150, `stream ${stream}: ${times.length} packets`);
      assert.deepEqual(steps.filter((ms) => !(ms > 0 && ms < 2 * frameMs)), [], `stream ${stream}: steps of ${frameMs} ms`);
    }
  }),
);

test(
  "tokens are asked for, carried into every URI, and end what waits",
  stage.act(async () => {
    const server = await Server.start({ AUTH__MODE: "jwt", AUTH__HS256_SECRET: SECRET });
    stage.closeLater(async () => void (await server.stop()));
    const all = sign({ stream: "*", can: ["publish", "subscribe", "admin"] });
    await stage.ffmpeg({ source: 1, gopSeconds: 2 }, flv(server.rtmp("locked", all)));
    await until("the stream is live", () => server.stream("locked", all));
    const status = async (url: string): Promise<number> => {
      const response = await fetch(url);
      await response.arrayBuffer();
      return response.status;
    };
    assert.equal(await status(server.hls("locked")), 401);
    assert.equal(await status(server.hls("locked", sign({ stream: "other", can: ["subscribe"] }))), 403);
    assert.equal(await status(server.hls("locked", sign({ stream: "locked", can: ["publish"] }))), 403);
    const token = sign({ stream: "locked", can: ["subscribe"] });
    const carried = await renditions(server.hls("locked", token));
    assert.ok(carried.length === 2 && carried.every((url) => url.endsWith(`?token=${token}`)), carried.join());
    assertStrict(await Promise.all(carried.map((url) => new StrictReader(url).run(6000))), 6000);
    const watching = await player();
    await watching.start(server.hls("locked"), token);
    await watching.sees(1);
    const short = sign({ stream: "locked", can: ["subscribe"], exp: seconds(3) });
    const [url = ""] = await renditions(server.hls("locked", short));
    await assert.rejects(new StrictReader(url).run(8000), /401/);
    const log = server.log.join("\n");
    assert.ok(!log.includes(token) && !log.includes(short), "a token is in the log");
  }),
);

test(
  "playlists are packed, by HTTP/2 too; other origins may read them; what cannot be is a problem",
  stage.act(async () => {
    await publish("plain", 1);
    const url = (await renditions(stage.server.hls("plain")))[0] ?? "";
    // `fetch` unpacks, so that the raw answer is asked for by HTTP/2 with prior knowledge.
    const client = connect(stage.server.url);
    stage.closeLater(() => client.close());
    const ask = (query: string): Promise<{ headers: Record<string, unknown>; body: Buffer }> =>
      new Promise((resolve, reject) => {
        const { pathname } = new URL(url);
        const request = client.request({ ":path": `${pathname}${query}`, "accept-encoding": "gzip", "user-agent": "Mozilla/5.0" });
        let headers: Record<string, unknown> = {};
        const chunks: Buffer[] = [];
        request.on("response", (given) => (headers = given));
        request.on("data", (chunk: Buffer) => chunks.push(chunk));
        request.on("end", () => resolve({ headers, body: Buffer.concat(chunks) }));
        request.on("error", reject);
        request.end();
      });
    const { headers, body } = await ask("");
    assert.equal(headers["content-encoding"], "gzip");
    assert.equal(headers["access-control-allow-origin"], "*");
    const playlist: Playlist = read(gunzipSync(body).toString());
    assert.deepEqual(playlist.faults, []);
    const next = (playlist.segments.at(-1)?.number ?? 0) + 1;
    // Many wait on one connection, and none holds up another.
    const waiting = Array.from({ length: 50 }, () => ask(`?_HLS_msn=${next}&_HLS_part=0`));
    assert.equal((await ask("?_HLS_msn=0")).headers[":status"], 200);
    for (const { headers: of } of await Promise.all(waiting)) assert.equal(of[":status"], 200);
    for (const [query, status] of [["?_HLS_part=1", 400], [`?_HLS_msn=${next + 40}`, 400]] as const) {
      const refused = await ask(query);
      assert.equal(refused.headers[":status"], status);
      assert.equal(refused.headers["content-type"], "application/problem+json");
    }
    assert.equal((await fetch(stage.server.hls("nobody"))).status, 404);
  }),
);
