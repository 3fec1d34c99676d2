// The client library on a page of somebody's own: renewed tokens, a server that stops, another browser.

import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { test } from "node:test";
import { Firefox } from "./interop/firefox.ts";
import { playing } from "./support/browser.ts";
import { Client } from "./support/client.ts";
import { flv } from "./support/ffmpeg.ts";
import { record } from "./support/figures.ts";
import { HlsOrigin } from "./support/hls.ts";
import { MediaPath } from "./support/path.ts";
import { Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { SECRET, seconds, sign } from "./support/token.ts";
import { until } from "./support/wait.ts";

const guarded = { AUTH__MODE: "jwt", AUTH__HS256_SECRET: SECRET };
const stage = Stage.set();

/** Short enough to see the end of, long enough to be renewed well before it. */
const TOKEN_S = 8;
const admin = sign({ stream: "*", can: ["admin"] });

test(
  "Tokens are asked for again before they end, and publisher and viewer outlive their first ones in the same sessions",
  stage.act(async () => {
    const server = await Server.start(guarded);
    stage.closeLater(async () => void (await server.stop()));
    const first = seconds(TOKEN_S);
    const tokens = (can: string): string[] => [first, seconds(3600)].map((exp) => sign({ stream: "lasting", can: [can], exp }));
    const studio = await stage.client();
    await studio.publish({ library: server.url, endpoint: server.whip("lasting"), tokens: tokens("publish") });
    await until("the stream is live", () => server.stream("lasting", admin), { withinMs: 15_000 });
    const player = await stage.client();
    await player.watch({ library: server.url, endpoint: server.whep("lasting"), tokens: tokens("subscribe") });
    const before = [await studio.goesOn(5), await player.goesOn(5)];
    assert.ok(Date.now() < first * 1000, "the first tokens ended before anything was seen");
    await until("the first tokens have ended", () => Date.now() > (first + 2) * 1000, { withinMs: TOKEN_S * 1000 + 5000 });
    const after = [await studio.goesOn(), await player.goesOn()];
    assert.deepEqual(after.map(({ resource }) => resource), before.map(({ resource }) => resource));
    for (const { reconnects, tokensAsked, errors } of after) assert.deepEqual([reconnects, tokensAsked, errors], [0, 2, []]);
    assert.equal(await server.metric("sluice_auth_failures_total"), 0);
  }),
);

test(
  "A server that stops sends its viewers to the other node, by its event and by redirection, and they play on there",
  stage.act(async () => {
    const other = stage.server;
    const node = await Server.start({ HTTP__OVERFLOW_TO: other.url });
    stage.closeLater(async () => void (await node.stop()));
    for (const [source, server] of [[1, node], [2, other]] as const) {
      await stage.ffmpeg({ source, gopSeconds: 2 }, flv(server.rtmp("moving")));
      await until("the stream is live", () => server.stream("moving"));
    }
    // One hears events; the other has nothing but its session's end.
    const told = await stage.client();
    await told.watch({ library: node.url, endpoint: node.whep("moving") });
    const plain = await stage.client();
    await plain.watch({ library: node.url, endpoint: node.whep("moving"), events: false });
    const { page } = await stage.page("/watch/moving", undefined, node);
    await playing(page);
    for (const client of [told, plain]) assert.match((await client.goesOn()).resource ?? "", new RegExp(`^${node.url}/`));
    const began = Date.now();
    const stopped = node.stop();
    for (const client of [told, plain]) {
      await until("its session is on the other node", async () => (await client.report()).resource?.startsWith(`${other.url}/`));
      const { reconnects } = await client.goesOn(5);
      assert.equal(reconnects, 1);
    }
    record("server stops, two viewers go to the other node: until both play there", Date.now() - began, "ms", 3000);
    await playing(page);
    assert.equal((await other.stream("moving"))?.viewer_count, 3);
    assert.ok((await stopped) < 5000);
  }),
);

test(
  "Firefox publishes and watches by the library",
  stage.act(async () => {
    // Firefox leaves loopback out of its candidates: the server is where another machine would find it.
    const address = Object.values(networkInterfaces()).flat().find((each) => each?.family === "IPv4" && !each.internal);
    const server = await Server.start({ WEBRTC__LISTEN: "0.0.0.0:0", WEBRTC__ADVERTISE: address?.address ?? "127.0.0.1" });
    stage.closeLater(async () => void (await server.stop()));
    const firefox = async (): Promise<Client> => {
      const client = Client.inFirefox(await Firefox.open(stage.pages.url("client")));
      stage.closeLater(() => client.leave());
      return client;
    };
    const studio = await firefox();
    await studio.publish({ library: server.url, endpoint: server.whip("fox"), microphone: true });
    await until("the stream is live", async () => (await server.stream("fox"))?.tracks.length === 2, { withinMs: 15_000 });
    const player = await firefox();
    await player.watch({ library: server.url, endpoint: server.whep("fox") });
    const watched = await player.goesOn(60, 20_000);
    assert.deepEqual([watched.codec, watched.audioCodec], ["video/VP8", "audio/opus"]);
    await until("sound is heard", async () => (await player.report()).audioEnergy > 0.0005);
    const published = await studio.goesOn(10);
    assert.deepEqual([published.codec, published.reconnects, published.errors], ["video/VP8", 0, []]);
    assert.equal(await player.close(), 404, "the viewer's session is over on the server");
    assert.equal(await studio.close(), 404, "the publisher's, too");
    await until("the stream is over", async () => (await server.stream("fox")) === undefined);
  }),
);

test(
  "Where WebRTC is blocked the library plays HLS of another server, with the token, and takes WebRTC as soon as it comes through",
  stage.act(async () => {
    const path = await MediaPath.open();
    stage.closeLater(() => path.close());
    const server = await Server.start({ ...guarded, WEBRTC__ADVERTISE: path.advertised });
    stage.closeLater(async () => void (await server.stop()));
    path.leadTo(server.addresses.webrtc);
    const origin = await HlsOrigin.start();
    stage.closeLater(() => origin.stop());
    await stage.ffmpeg({ source: 1, gopSeconds: 1 }, flv(server.rtmp("away", sign({ stream: "away", can: ["publish"] }))));
    await until("the stream is live", () => server.stream("away", admin));
    path.block(true);
    const player = await stage.client();
    const token = sign({ stream: "away", can: ["subscribe"] });
    await player.watch({ library: server.url, endpoint: server.whep("away"), tokens: [token], hls: origin.url });
    record("library, no way for WebRTC: begun to pictures by HLS", await player.comesBy("hls", 30_000), "ms", 8000);
    const playlists = origin.asked.filter((asked) => asked.startsWith("stream.m3u8"));
    assert.ok(playlists.length > 0 && playlists.every((asked) => asked === `stream.m3u8?token=${token}`), playlists.join(" "));
    assert.ok(origin.asked.every((asked) => !/\.ts\?/.test(asked)), "media needs no token");
    path.block(false);
    record("library, WebRTC is let through again: until its pictures take over", await player.comesBy("webrtc", 45_000), "ms", 25_000);
    const asked = origin.asked.length;
    const { state, errors } = await player.goesOn(60);
    assert.deepEqual([state, errors], ["connected", []]);
    assert.equal(origin.asked.length, asked, "HLS is not asked for any more");
  }),
);

test(
  "Firefox plays HLS where WebRTC has no way, by the library, too",
  stage.act(async () => {
    // Firefox leaves loopback out of its candidates, and the server has nothing else.
    const { server } = stage;
    const origin = await HlsOrigin.start();
    stage.closeLater(() => origin.stop());
    await stage.ffmpeg({ source: 1, gopSeconds: 1 }, flv(server.rtmp("fox-hls")));
    await until("the stream is live", () => server.stream("fox-hls"));
    const player = Client.inFirefox(await Firefox.open(stage.pages.url("client")));
    stage.closeLater(() => player.leave());
    await player.watch({ library: server.url, endpoint: server.whep("fox-hls"), hls: origin.url });
    await player.comesBy("hls", 40_000);
  }),
);
