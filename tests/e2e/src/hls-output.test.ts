// HLS in a store of files: a bucket behind a CDN, and a folder.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { flv, type FfmpegPublisher } from "./support/ffmpeg.ts";
import { HlsPlayer, play } from "./support/hls-player.ts";
import { Bucket, cdn } from "./support/s3.ts";
import { Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

const stage = Stage.set();
const run = promisify(execFile);
const FFMPEG = process.env["SLUICE_FFMPEG"] ?? "ffmpeg";
/** Over soon, and little to wait for. */
const SHORT = { HLS__WINDOW_SEGMENTS: "3", HLS__AWAY_S: "1" };

async function serverWith(output: string, environment: Record<string, string> = {}): Promise<Server> {
  const server = await Server.start({ ...SHORT, HLS__OUTPUT: output }, environment);
  stage.closeLater(async () => void (await server.stop()));
  return server;
}

function publish(server: Server, stream: string): Promise<FfmpegPublisher> {
  return stage.ffmpeg({ source: 1, gopSeconds: 2 }, flv(server.rtmp(stream)));
}

test(
  "a bucket has what hls.js plays from behind a CDN; what has ended says so, and goes",
  stage.act(async () => {
    const bucket = await Bucket.start("videos");
    stage.closeLater(() => bucket.stop());
    const behind = await cdn(bucket);
    stage.closeLater(behind.close);
    const server = await serverWith("s3://videos/live", bucket.environment);
    const publisher = await publish(server, "stored");
    const url = `${behind.url}/live/stored/index.m3u8`;
    await until("there is a playlist", async () => (await fetch(url)).ok).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${server.log.join("\n")}\n${bucket.log.slice(-20).join("\n")}`);
    });
    const player = await HlsPlayer.open(stage.pages);
    stage.closeLater(() => player.close());
    await player.start(url);
    await player.sees(1);
    await measureFor(2000);
    const { report } = await play(player, 6000);
    assert.ok(report.stalls <= 1, JSON.stringify(report.errors));

    const cached = async (name: string): Promise<(string | null)[]> => {
      const { headers } = await fetch(`${behind.url}/live/stored/${name}`);
      return [headers.get("content-type"), headers.get("cache-control")];
    };
    assert.deepEqual(await cached("r0.m3u8"), ["application/vnd.apple.mpegurl", "public, max-age=1"]);
    const segments = async (): Promise<string[]> => (await bucket.keys()).filter((key) => key.endsWith(".m4s"));
    const segment = (await segments()).at(-1) ?? "";
    assert.deepEqual(await cached(segment.slice("live/stored/".length)), ["video/mp4", "public, max-age=31536000, immutable"]);
    const listed = (await server.stream("stored"))?.hls?.output;
    assert.ok(listed?.failing === null && listed.segments >= 6, JSON.stringify(listed));

    await publisher.stop();
    const playlist = async (): Promise<string> => (await fetch(`${behind.url}/live/stored/r0.m3u8`)).text();
    await until("the end is told", async () => (await playlist()).endsWith("#EXT-X-ENDLIST\n"));
    await until("nothing is left", async () => (await bucket.keys()).length === 0, { withinMs: 20_000 });
    const counted = (labels: string): Promise<number> => server.metric("sluice_hls_output_requests_total", labels);
    assert.ok((await counted('operation="delete",outcome="ok"')) >= 2 * 6);
    assert.equal(await counted('operation="put",outcome="failed"'), 0);
  }),
);

test(
  "a folder has what ffmpeg plays from there; a place that cannot be is named at once",
  stage.act(async () => {
    const folder = mkdtempSync(path.join(tmpdir(), "sluice-hls-"));
    stage.closeLater(() => Promise.resolve(rmSync(folder, { recursive: true, force: true })));
    const server = await serverWith(`file://${folder}/live`);
    await publish(server, "kept");
    const index = path.join(folder, "live/kept/index.m3u8");
    const first = path.join(folder, "live/kept/r0.m3u8");
    await until("two segments are there", () => {
      const there = readdirSync(folder, { recursive: true }).some((name) => String(name).endsWith("index.m3u8"));
      return Promise.resolve(there && (readFileSync(first, "utf8").match(/#EXTINF/g)?.length ?? 0) >= 2);
    });
    const input = ["-v", "error", "-live_start_index", "0", "-t", "3", "-i", index];
    const { stdout } = await run(FFMPEG, [...input, "-map", "0:v", "-map", "0:a", "-f", "framecrc", "-"]);
    const frames = (of: string): number => stdout.split("\n").filter((line) => line.startsWith(of)).length;
    assert.ok(frames("0,") >= 85 && frames("1,") >= 130, `${frames("0,")} pictures, ${frames("1,")} of sound`);

    await assert.rejects(Server.start({ HLS__OUTPUT: "/srv/hls" }), /hls\.output.*expected a place such as "file:\/\/\/srv\/hls"/);
  }),
);
