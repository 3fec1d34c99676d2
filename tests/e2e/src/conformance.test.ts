// The server is held to RFC 9725 and draft-ietf-wish-whep by the command that is for any server.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { hold, type Result, type Target } from "./conformance/checks.ts";
import { Client, offer } from "./conformance/exchange.ts";
import { whip } from "./support/ffmpeg.ts";
import { Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { SECRET, sign } from "./support/token.ts";
import { until } from "./support/wait.ts";

const ICE_SERVERS = "stun:stun.example.net:3478";
const stage = Stage.set({ AUTH__MODE: "jwt", AUTH__HS256_SECRET: SECRET, ICE__SERVERS: ICE_SERVERS });
const token = sign({ stream: "*", can: ["publish", "subscribe", "admin"] });

/** Where the checks' clients seem to be: this machine's own addresses may ask as often as they like. */
const AFAR = { "x-forwarded-for": "203.0.113.9" };

/** Other servers than the stage's, in states of their own: what a newcomer to `stream` is told there. */
async function others(door: "whip" | "whep", stream: string): Promise<Pick<Target, "full" | "elsewhere" | "limited">> {
  const start = async (settings: Record<string, string>): Promise<URL> => {
    const server = await Server.start({ AUTH__MODE: "jwt", AUTH__HS256_SECRET: SECRET, ...settings });
    stage.closeLater(async () => void (await server.stop()));
    if (settings["WEBRTC__SESSIONS_MAX"] !== undefined) {
      const first = await new Client(token).post(new URL(server.whip("first")), offer({ direction: "sendonly" }));
      assert.equal(first.status, 201, first.body);
    }
    return new URL(server[door](stream));
  };
  const [full, elsewhere, limited] = await Promise.all([
    start({ WEBRTC__SESSIONS_MAX: "1" }),
    start({ WEBRTC__SESSIONS_MAX: "1", HTTP__OVERFLOW_TO: stage.server.url }),
    start({ HTTP__CLIENT_REQUESTS_PER_S: "1", HTTP__CLIENT_REQUESTS_BURST: "3", HTTP__TRUSTED_PROXIES: "127.0.0.1" }),
  ]);
  return { full, elsewhere, limited };
}

async function kept(results: AsyncGenerator<Result>): Promise<void> {
  const all: Result[] = [];
  for await (const result of results) {
    console.log(`  ${result.outcome}: ${result.name} (${result.section}) ${result.why}`);
    all.push(result);
  }
  assert.deepEqual(all.filter(({ outcome }) => outcome === "fail"), []);
  // What the drafts leave to the server is there, too.
  assert.deepEqual(all.filter(({ outcome }) => outcome === "not applicable"), []);
  assert.ok(all.length > 25, `${all.length} checks`);
}

test("A server that keeps no rule is found out", async () => {
  const server = createServer((_, response) => response.writeHead(200, { location: "/x", etag: "x" }).end("hello")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  const endpoint = new URL(`http://127.0.0.1:${address.port}/x`);
  for (const protocol of ["WHIP", "WHEP"] as const) {
    const passed: string[] = [];
    const everywhere = { endpoint, idle: endpoint, full: endpoint, elsewhere: endpoint, limited: endpoint };
    for await (const { name, outcome } of hold({ protocol, ...everywhere, client: new Client("token") })) {
      if (outcome !== "fail") passed.push(name);
    }
    // It has no servers to tell anybody.
    assert.deepEqual(passed, protocol === "WHIP" ? ["a preflight is told no ICE servers"] : []);
  }
  server.close();
  server.closeAllConnections();
});

test(
  "WHIP is kept to RFC 9725",
  stage.act(async () => {
    const client = new Client(token, AFAR);
    const more = await others("whip", "held");
    await kept(hold({ protocol: "WHIP", endpoint: new URL(stage.server.whip("held")), client, ...more }));
  }),
);

test(
  "WHEP is kept to draft-ietf-wish-whep",
  stage.act(async () => {
    const { server } = stage;
    const client = new Client(token, AFAR);
    await stage.ffmpeg({ source: 1, gopSeconds: 2 }, whip(server.whip("live"), token));
    await until("the stream is live", async () => (await server.stream("live", token))?.tracks.length === 2);
    const [endpoint, idle] = [new URL(server.whep("live")), new URL(server.whep("nobody"))];
    await kept(hold({ protocol: "WHEP", endpoint, idle, client, ...(await others("whep", "live")) }));
  }),
);
