// Streams are fetched from other servers (relay.pull).

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { test } from "node:test";
import type { Viewer } from "./support/browser.ts";
import type { FfmpegPublisher } from "./support/ffmpeg.ts";
import { flv, flvForPlayer } from "./support/ffmpeg.ts";
import { record } from "./support/figures.ts";
import { HlsPlayer, play, soundAfterPicture } from "./support/hls-player.ts";
import { freePort, Server, type PullState } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { SECRET, sign } from "./support/token.ts";
import { measureFor, until } from "./support/wait.ts";

const stage = Stage.set();

/** A server that fetches streams from these sources. */
async function fetcher(sources: string[], settings: Record<string, string> = {}): Promise<Server> {
  const server = await Server.start({ RELAY__PULL: sources.join(","), ...settings });
  stage.closeLater(async () => void (await server.stop()));
  return server;
}

/** ffmpeg as a server: it waits for one player, and plays to it for as long as that stays. */
function plays(url: string, source: number): Promise<FfmpegPublisher> {
  return stage.ffmpeg({ source, gopSeconds: 1 }, flvForPlayer(url));
}

async function becomes(server: Server, stream: string, state: string, withinMs = 10_000): Promise<PullState> {
  const what = `the source of ${stream} is ${state}`;
  return until(what, async () => [await server.pull(stream)].find((now) => now.state === state), { withinMs });
}

test(
  "What a source plays by RTMP is seen and heard; when it is restarted, or ended by the API, it comes back; nobody's stream is taken over",
  stage.act(async () => {
    const url = `rtmp://127.0.0.1:${await freePort()}/live/secret-key?token=hidden`;
    const near = await fetcher([`cam1 ${url}`]);
    const waits = await becomes(near, "cam1", "retrying");
    assert.ok(waits.problem !== null && waits.source.startsWith("rtmp://127.0.0.1"), JSON.stringify(waits));

    const first = await plays(url, 1);
    const live = await until("it is live", () => near.stream("cam1"), { withinMs: 15_000 });
    assert.equal(live.publisher?.protocol, "rtmp-pull");
    const viewer = await stage.viewer();
    await viewer.start(near.whep("cam1"));
    await viewer.sees(1);
    await seenAndHeard(viewer);
    const state = await near.pull("cam1");
    assert.deepEqual([state.state, state.problem], ["live", null]);
    assert.ok(state.bytes_received > 100_000, `${state.bytes_received}`);
    assert.equal(await near.metric("sluice_relays", 'direction="pull"'), 1);
    assert.equal(await near.metric("sluice_publishers", 'protocol="rtmp-pull"'), 1);

    // The source ends, and another one is there.
    await first.kill();
    const lost = await becomes(near, "cam1", "retrying");
    assert.ok(lost.problem !== null && lost.attempts > waits.attempts);
    assert.equal(await near.stream("cam1"), undefined, "nothing is live");
    await plays(url, 2);
    await viewer.sees(2, 20_000);

    // An operator ends it: it is tried again.
    const response = await fetch(`${near.url}/api/v1/streams/cam1/publisher`, { method: "DELETE" });
    assert.equal(response.status, 204);
    await until("it was ended", async () => (await near.pull("cam1")).last_failure?.reason === "ended by an operator");
    await plays(url, 3);
    await viewer.sees(3, 20_000);

    // Somebody publishes here, and is left alone.
    await stage.ffmpeg({ source: 4, gopSeconds: 1 }, flv(near.rtmp("cam1")));
    await viewer.sees(4);
    await becomes(near, "cam1", "waiting");
    await plays(url, 5);
    await measureFor(3000);
    assert.equal((await near.stream("cam1"))?.publisher?.protocol, "rtmp");
    const log = near.log.join("\n");
    assert.ok(!log.includes("secret-key") && !log.includes("hidden"), "the key is in the log");
  }),
);

test(
  "On demand, a source is connected by the first viewer, who is answered with the stream, and left after the last one",
  stage.act(async () => {
    const [watched, played] = [await freePort(), await freePort()].map((port) => `rtmp://127.0.0.1:${port}/live/key`);
    const gone = `rtmp://127.0.0.1:${await freePort()}/live/key`;
    const source = await plays(watched as string, 1);
    await plays(played as string, 2);
    const near = await fetcher([`cam1 ${watched} on-demand`, `cam2 ${played} on-demand`, `gone ${gone} on-demand`]);
    await measureFor(1500);
    for (const stream of ["cam1", "cam2", "gone"]) {
      const { state, attempts, on_demand } = await near.pull(stream);
      assert.deepEqual([state, attempts, on_demand], ["idle", 0, true], `nobody wants ${stream}`);
    }
    const viewer = await stage.viewer();
    // A refusal would fail this.
    await viewer.start(near.whep("cam1"));
    await viewer.sees(1);
    assert.equal((await near.pull("cam1")).attempts, 1);

    const playlist = await fetch(near.hls("cam2"));
    assert.equal(playlist.status, 200, await playlist.text());
    assert.equal((await near.pull("cam2")).state, "live");

    const refused = await fetch(near.whep("gone"), { method: "POST", headers: { "content-type": "application/sdp" }, body: await offer() });
    const problem = (await refused.json()) as { type: string; detail: string };
    assert.equal(refused.status, 409);
    assert.match(problem.type, /not-live/);
    assert.match(problem.detail, /^the source rtmp:\/\/127\.0\.0\.1:\d+\/live: .*refused/);
    assert.ok(refused.headers.get("retry-after"));
    const unplayed = await fetch(near.hls("gone"));
    assert.equal(unplayed.status, 404);
    assert.match(await unplayed.text(), /the source rtmp:/);

    await measureFor(3000);
    assert.equal((await near.pull("cam1")).state, "live", "as long as somebody watches");
    await viewer.stop();
    await becomes(near, "cam1", "idle", 20_000);
    await until("the source is left", () => source.process.exitCode !== null || source.process.signalCode !== null);
    await becomes(near, "cam2", "idle", 40_000);
    await becomes(near, "gone", "idle");
    assert.equal(await near.metric("sluice_relays", 'direction="pull"'), 0);
    assert.equal(await near.metric("sluice_publishers"), 0);
  }),
);

test(
  "Who may not watch wakes no source",
  stage.act(async () => {
    const url = `rtmp://127.0.0.1:${await freePort()}/live/key`;
    await plays(url, 1);
    const near = await fetcher([`cam1 ${url} on-demand`], { AUTH__MODE: "jwt", AUTH__HS256_SECRET: SECRET });
    const admin = sign({ stream: "*", can: ["admin"] });
    const other = sign({ stream: "cam2", can: ["subscribe"] });
    for (const [token, status] of [[undefined, 401], [other, 403]] as const) {
      const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
      const type = { "content-type": "application/sdp" };
      const whep = await fetch(near.whep("cam1"), { method: "POST", headers: { ...headers, ...type }, body: await offer() });
      const hls = await fetch(near.hls("cam1"), { headers });
      assert.deepEqual([whep.status, hls.status], [status, status]);
    }
    await measureFor(1500);
    const { state, attempts } = await near.pull("cam1", admin);
    assert.deepEqual([state, attempts], ["idle", 0]);
    const viewer = await stage.viewer();
    await viewer.start(near.whep("cam1"), sign({ stream: "cam1", can: ["subscribe"] }));
    await viewer.sees(1);
  }),
);

/** Pictures and sound, for three seconds. */
async function seenAndHeard(viewer: Viewer): Promise<void> {
  await viewer.reset();
  await measureFor(3000);
  const { shown, unreadable, stats } = await viewer.report();
  assert.ok(shown.length > 45, `${shown.length} pictures in 3 s: ${JSON.stringify(stats)}`);
  assert.ok(unreadable <= 1, `${unreadable} pictures were damaged`);
  assert.ok(stats.audioEnergy > 0.0005, `sound: energy ${stats.audioEnergy}`);
}

/** What a browser offers. */
async function offer(): Promise<string> {
  const page = (await stage.viewer()).page;
  return page.evaluate(async () => {
    const connection = new RTCPeerConnection();
    for (const kind of ["video", "audio"]) connection.addTransceiver(kind, { direction: "recvonly" });
    await connection.setLocalDescription();
    return connection.localDescription?.sdp ?? "";
  });
}

test(
  "A source that takes the connection and says nothing holds a viewer's request for five seconds, and nobody else's",
  stage.act(async () => {
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket.on("error", () => undefined))).listen(0, "127.0.0.1");
    stage.closeLater(() => {
      sockets.forEach((socket) => socket.destroy());
      silent.close();
    });
    await once(silent, "listening");
    const { port } = silent.address() as AddressInfo;
    const near = await fetcher([`cam1 rtmp://127.0.0.1:${port}/live/key on-demand`]);
    const body = await offer();
    const post = (stream: string): Promise<Response> =>
      fetch(near.whep(stream), { method: "POST", headers: { "content-type": "application/sdp" }, body });
    const began = Date.now();
    const held = [post("cam1"), fetch(near.hls("cam1"))];
    await measureFor(500);
    assert.equal((await near.pull("cam1")).state, "connecting");
    assert.equal((await post("cam2")).status, 409);
    assert.ok(Date.now() - began < 3000, "others are answered meanwhile");
    const answers = await Promise.all(held);
    const heldMs = Date.now() - began;
    assert.deepEqual(answers.map(({ status }) => status), [409, 404]);
    for (const answer of answers) assert.match(await answer.text(), /the source rtmp:.* it has not sent anything yet/);
    assert.ok(heldMs > 4500 && heldMs < 9000, `held for ${heldMs} ms`);
    const given = await becomes(near, "cam1", "idle", 30_000);
    assert.match(given.last_failure?.reason ?? "it was left before that", /did not answer within 10 s|left before/);
  }),
);

test(
  "What another Sluice has is fetched by WHEP, is seen and heard, and comes back; on demand it is fetched for the first viewer; a wrong token is told",
  stage.act(async () => {
    const ports = { HTTP__LISTEN: `127.0.0.1:${await freePort()}`, RTMP__LISTEN: `127.0.0.1:${await freePort()}` };
    const settings = { ...ports, AUTH__MODE: "jwt", AUTH__HS256_SECRET: SECRET };
    let far = await Server.start(settings);
    stage.closeLater(() => far.process.kill("SIGKILL") as unknown as void);
    const [publishes, watches] = (["publish", "subscribe"] as const).map((right) => sign({ stream: "*", can: [right] }));
    const near = await fetcher([
      `cam1 ${far.whep("cam1")} bearer=${watches}`,
      `cam2 ${far.whep("cam1")} on-demand bearer=${watches}`,
      `room ${far.whep("room")} bearer=${watches}`,
      `closed ${far.whep("cam1")} bearer=not.a.token`,
    ]);
    const early = await becomes(near, "cam1", "retrying");
    assert.match(early.problem ?? "", /409.*nobody publishes/);
    const refused = await near.pull("closed");
    assert.match(refused.problem ?? "", /^it refuses the token \(401/);
    assert.ok(!JSON.stringify(refused).includes("not.a.token"));

    const first = await stage.ffmpeg({ source: 1, gopSeconds: 1 }, flv(far.rtmp("cam1", publishes)));
    const live = await until("it is live", () => near.stream("cam1"), { withinMs: 20_000 });
    assert.equal(live.publisher?.protocol, "whep-pull");
    const viewer = await stage.viewer();
    await viewer.start(near.whep("cam1"));
    await viewer.sees(1);
    await seenAndHeard(viewer);
    // By HLS pictures and sound are where the source's sender reports say that they belong.
    const player = await HlsPlayer.open(stage.pages);
    stage.closeLater(() => player.close());
    await player.start(near.hls("cam1"));
    await player.sees(1);
    await measureFor(2000);
    const offsetMs = soundAfterPicture(await play(player, 5000));
    const apartMs = Math.min(offsetMs, 1000 - offsetMs);
    record("fetched by WHEP: sound after its picture, by the reports", apartMs, "ms", 80);
    assert.ok(apartMs < 200, `sound comes ${offsetMs} ms after the picture`);
    await player.close();

    assert.deepEqual([(await near.pull("cam2")).state, (await near.pull("cam2")).attempts], ["idle", 0]);
    const late = await stage.viewer();
    await late.start(near.whep("cam2"));
    await late.sees(1);
    await late.close();

    // A browser there, with VP8; its keyframes come when asked for.
    await stage.publisher({ endpoint: far.whip("room"), source: 2, codec: "VP8", token: publishes });
    await until("the room is live", () => near.stream("room"), { withinMs: 20_000 });
    const second = await stage.viewer();
    await second.start(near.whep("room"));
    await second.sees(2);
    assert.equal((await near.stream("room"))?.tracks[0]?.codec, "VP8");

    // The other server dies, and comes back at the same address.
    far.process.kill("SIGKILL");
    await becomes(near, "cam1", "retrying", 20_000);
    await first.kill();
    far = await Server.start(settings);
    await stage.ffmpeg({ source: 3, gopSeconds: 1 }, flv(far.rtmp("cam1", publishes)));
    await viewer.sees(3, 30_000);
    await becomes(near, "cam2", "idle", 30_000);
    const log = near.log.join("\n");
    assert.ok(!log.includes(watches as string) && !log.includes("not.a.token"), "a token is in the log");
    assert.equal(await near.metric("sluice_relays", 'direction="pull"'), 1);
  }),
);

test(
  "Two servers that fetch from each other both have a publisher's stream, whichever it comes to, and neither has it once it has left",
  stage.act(async () => {
    const [onePort, otherPort] = [await freePort(), await freePort()];
    const fetches = (port: number, fromPort: number): Promise<Server> =>
      fetcher([`cam1 http://127.0.0.1:${fromPort}/whep/cam1`], { HTTP__LISTEN: `127.0.0.1:${port}` });
    const servers = [await fetches(onePort, otherPort), await fetches(otherPort, onePort)] as const;
    const [one, other] = servers;
    const live = async (): Promise<string[]> => {
      const streams = await Promise.all(servers.map((server) => server.stream("cam1")));
      return streams.map((stream) => stream?.publisher?.protocol ?? "none");
    };
    const are = (...protocols: string[]): Promise<unknown> =>
      until(`publishers are ${protocols}`, async () => String(await live()) === String(protocols), { withinMs: 25_000 });

    const first = await stage.ffmpeg({ source: 1, gopSeconds: 1 }, flv(one.rtmp("cam1")));
    await are("rtmp", "whep-pull");
    const viewers = [await stage.viewer(), await stage.viewer()] as const;
    for (const [at, viewer] of viewers.entries()) {
      await viewer.start((servers[at] as Server).whep("cam1"));
      await viewer.sees(1);
    }
    await first.kill();
    await are("none", "none");
    await measureFor(5000);
    assert.deepEqual(await live(), ["none", "none"], "the last pictures have come back");

    const second = await stage.ffmpeg({ source: 2, gopSeconds: 1 }, flv(other.rtmp("cam1")));
    await are("whep-pull", "rtmp");
    for (const viewer of viewers) await viewer.sees(2, 20_000);

    // A backup at the one goes to the other as well, and does not come back from there as a primary.
    await stage.ffmpeg({ source: 3, gopSeconds: 1 }, flv(`${one.rtmp("cam1")}?priority=backup`));
    await until("the backup is ready", async () => (await one.stream("cam1"))?.standby?.ready);
    await second.kill();
    await are("rtmp", "whep-pull");
    await measureFor(5000);
    assert.deepEqual(await live(), ["rtmp", "whep-pull"], "what it sent took its place");
    for (const viewer of viewers) {
      await viewer.reset();
      await viewer.sees(3);
    }
    const log = [...one.log, ...other.log].join("\n");
    assert.match(log, /what it has of the stream came from here/);
  }),
);
