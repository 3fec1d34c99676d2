// The server is held to RFC 9725 and draft-ietf-wish-whep by the command that is for any server.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { hold, type Result } from "./conformance/checks.ts";
import { Client } from "./conformance/exchange.ts";
import { whip } from "./support/ffmpeg.ts";
import { Stage } from "./support/stage.ts";
import { SECRET, sign } from "./support/token.ts";
import { until } from "./support/wait.ts";

const ICE_SERVERS = "stun:stun.example.net:3478";
const stage = Stage.set({ AUTH__MODE: "jwt", AUTH__HS256_SECRET: SECRET, ICE__SERVERS: ICE_SERVERS });
const token = sign({ stream: "*", can: ["publish", "subscribe", "admin"] });

/** What the drafts leave to the server, and it may not offer for every stream. */
const OPTIONAL = /^(events|layers):/;

async function kept(results: AsyncGenerator<Result>): Promise<void> {
  const all: Result[] = [];
  for await (const result of results) {
    console.log(`  ${result.outcome}: ${result.name} (${result.section}) ${result.why}`);
    all.push(result);
  }
  assert.deepEqual(all.filter(({ outcome }) => outcome === "fail"), []);
  const beside = all.filter(({ outcome, name }) => outcome === "not applicable" && !OPTIONAL.test(name));
  assert.deepEqual(beside, []);
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
    for await (const { name, outcome } of hold({ protocol, endpoint, idle: endpoint, client: new Client("token") })) {
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
    const client = new Client(token);
    await kept(hold({ protocol: "WHIP", endpoint: new URL(stage.server.whip("held")), client }));
  }),
);

test(
  "WHEP is kept to draft-ietf-wish-whep",
  stage.act(async () => {
    const { server } = stage;
    const client = new Client(token);
    await stage.ffmpeg({ source: 1, gopSeconds: 2 }, whip(server.whip("live"), token));
    await until("the stream is live", async () => (await server.stream("live", token))?.tracks.length === 2);
    const [endpoint, idle] = [new URL(server.whep("live")), new URL(server.whep("nobody"))];
    await kept(hold({ protocol: "WHEP", endpoint, idle, client }));
  }),
);
