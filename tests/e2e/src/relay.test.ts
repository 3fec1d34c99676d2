// A stream is sent on to other servers by RTMP (relay.push).

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { flv } from "./support/ffmpeg.ts";
import { freePort, type Push, Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

const FFMPEG = process.env["SLUICE_FFMPEG"] ?? "ffmpeg";
const stage = Stage.set();

/** A server that sends streams on to these targets. */
async function sender(...targets: string[]): Promise<Server> {
  const server = await Server.start({ RELAY__PUSH: targets.join(",") });
  stage.closeLater(async () => void (await server.stop()));
  return server;
}

test(
  "What comes by RTMP and by WHIP is sent on by RTMP, is seen and heard there, and survives the loss of the other server",
  stage.act(async () => {
    const ports = { RTMP__LISTEN: `127.0.0.1:${await freePort()}` };
    let far = await Server.start(ports);
    stage.closeLater(() => far.process.kill("SIGKILL") as unknown as void);
    const near = await sender(`cam* ${far.rtmp("copy")}`, `room ${far.rtmp("room-copy")}`);
    await stage.ffmpeg({ source: 1, gopSeconds: 1 }, flv(near.rtmp("cam1")));
    await until("the copy is live", () => far.stream("copy"));
    const viewer = await stage.viewer();
    await viewer.start(far.whep("copy"));
    await viewer.sees(1);
    const report = async (): Promise<Push | undefined> => (await near.stream("cam1"))?.pushes[0];
    const live = await report();
    assert.deepEqual([live?.state, live?.attempts, live?.problem], ["live", 1, null]);
    assert.ok(!(live?.target ?? "").includes("copy"), `the key is a secret: ${live?.target}`);
    assert.ok((live?.bytes_sent ?? 0) > 10_000);

    // Chromium's H.264 and Opus.
    await stage.publisher({ endpoint: near.whip("room"), source: 2, codec: "H264" });
    await until("there are pictures and sound", async () => (await far.stream("room-copy"))?.tracks.length === 2, { withinMs: 15_000 });
    const second = await stage.viewer();
    await second.start(far.whep("room-copy"));
    await second.sees(2, 15_000);
    await second.reset();
    await measureFor(3000);
    const { shown, unreadable, stats } = await second.report();
    assert.ok(shown.length > 60, `${shown.length} pictures in 3 s: ${JSON.stringify(stats)}`);
    assert.equal(unreadable, 0);
    assert.ok(stats.audioEnergy > 0.0005, `sound: energy ${stats.audioEnergy}`);

    // The other server dies, and comes back at the same address.
    far.process.kill("SIGKILL");
    await until("it is tried again", async () => (await report())?.state === "retrying");
    assert.ok((await report())?.problem);
    far = await Server.start(ports);
    await until("the copy is live again", () => far.stream("copy"), { withinMs: 15_000 });
    await until("that is known", async () => (await report())?.state === "live");
    const again = await report();
    assert.ok((again?.attempts ?? 0) >= 2);
    assert.equal(again?.problem, null);
    assert.ok(again?.last_failure?.reason, "what went wrong is remembered");
    await until("both are counted", async () => (await near.metric("sluice_relays", 'direction="push"')) === 2, { withinMs: 15_000 });
    assert.ok(!near.log.join("\n").includes("/live/copy"), "the key is in the log");
  }),
);

test(
  "ffmpeg as a target records what it is sent; a target that refuses is named, and tried again",
  stage.act(async () => {
    const folder = await mkdtemp(path.join(tmpdir(), "sluice-relay-"));
    stage.closeLater(() => rm(folder, { recursive: true }));
    const url = `rtmp://127.0.0.1:${await freePort()}/live/record`;
    const file = path.join(folder, "record.flv");
    const recorder = spawn(FFMPEG, ["-hide_banner", "-loglevel", "error", "-listen", "1", "-i", url, "-c", "copy", "-t", "4", file], { stdio: "ignore" });
    stage.closeLater(() => void recorder.kill("SIGKILL"));
    const guarded = await Server.start({ AUTH__MODE: "jwt", AUTH__HS256_SECRET: "0123456789abcdef0123456789abcdef" });
    stage.closeLater(async () => void (await guarded.stop()));
    const near = await sender(`cam1 ${url}`, `cam1 ${guarded.rtmp("cam1")}`);
    const bFrames = ["-tune", "film", "-profile:v", "high", "-bf", "2"];
    await stage.ffmpeg({ source: 3, gopSeconds: 1, video: bFrames }, flv(near.rtmp("cam1")));
    const refused = await until("it is refused", async () => (await near.stream("cam1"))?.pushes.find(({ problem }) => problem !== null));
    assert.match(refused.problem ?? "", /NetStream\.Publish\.Denied/);
    const [code] = (await once(recorder, "exit")) as [number];
    assert.equal(code, 0);
    const decoded = await promisify(execFile)(FFMPEG, ["-hide_banner", "-loglevel", "error", "-xerror", "-i", file, "-progress", "pipe:1", "-f", "null", "-"]);
    assert.equal(decoded.stderr, "", "what was recorded is without fault");
    const frames = Number([...decoded.stdout.matchAll(/^frame=(\d+)/gm)].at(-1)?.[1]);
    assert.ok(frames >= 100, `${frames} pictures in 4 s`);
  }),
);
