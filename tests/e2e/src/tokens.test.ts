import assert from "node:assert/strict";
import { test } from "node:test";
import { flv, whip } from "./support/ffmpeg.ts";
import { record } from "./support/figures.ts";
import { Stage } from "./support/stage.ts";
import { SECRET, seconds, sign } from "./support/token.ts";
import { measureFor, until } from "./support/wait.ts";

const stage = Stage.set({ AUTH__MODE: "jwt", AUTH__HS256_SECRET: SECRET });

const publish = sign({ stream: "cam", can: ["publish"] });
const subscribe = sign({ stream: "cam", can: ["subscribe"] });
const admin = sign({ stream: "*", can: ["admin"] });

/** Each with the status that HTTP gives, for the door that the right of `can` opens. */
function refused(can: "publish" | "subscribe"): [string, string | undefined, number][] {
  const other = can === "publish" ? "subscribe" : "publish";
  const good = sign({ stream: "cam", can: [can] });
  return [
    ["missing", undefined, 401],
    ["no token at all", "nonsense", 401],
    ["signed with another secret", sign({ stream: "cam", can: [can] }, "another-secret-of-more-than-32-bytes!"), 401],
    ["with a changed claim", good.replace(/\.[^.]*\./, `.${Buffer.from('{"exp":9999999999,"stream":"cam","can":["publish","subscribe"]}').toString("base64url")}.`), 401],
    ["without a signature", `${Buffer.from('{"alg":"none"}').toString("base64url")}.${good.split(".")[1] ?? ""}.`, 401],
    ["expired", sign({ stream: "cam", can: [can], exp: seconds(-120) }), 401],
    ["not valid yet", sign({ stream: "cam", can: [can], nbf: seconds(600) }), 401],
    ["for another stream", sign({ stream: "other", can: [can] }), 403],
    ["for another glob", sign({ stream: ["room-*", "came*"], can: [can] }), 403],
    ["for another right", sign({ stream: "cam", can: [other] }), 403],
    ["for another address", sign({ stream: "cam", can: [can], ip: ["192.0.2.0/24"] }), 403],
  ];
}

async function post(url: string, token: string | undefined): Promise<Response> {
  const headers: Record<string, string> = { "content-type": "application/sdp" };
  if (token !== undefined) headers["authorization"] = `Bearer ${token}`;
  return fetch(url, { method: "POST", headers, body: "v=0\r\n" });
}

for (const [door, can] of [["whip", "publish"], ["whep", "subscribe"]] as const) {
  test(`The ${door.toUpperCase()} door refuses every token that is not good enough`, async () => {
    for (const [what, token, status] of refused(can)) {
      const response = await post(`${stage.server.url}/${door}/cam`, token);
      const problem = (await response.json()) as { status?: number; title?: string };
      assert.equal(response.status, status, `a token ${what}: ${JSON.stringify(problem)}`);
      assert.equal(response.headers.get("content-type"), "application/problem+json", what);
      assert.equal(problem.status, status);
      assert.ok(problem.title, what);
      if (status === 401) assert.match(response.headers.get("www-authenticate") ?? "", /^Bearer/, what);
    }
    // With a good one the next thing is looked at: the offer, which is none.
    const response = await post(`${stage.server.url}/${door}/cam`, can === "publish" ? publish : subscribe);
    assert.ok([400, 409, 422].includes(response.status), `${response.status} ${await response.text()}`);
  });
}

test(
  "The RTMP door refuses every token that is not good enough",
  stage.act(async () => {
    for (const [what, token] of refused("publish")) {
      const publisher = await stage.ffmpeg({ source: 1, gopSeconds: 2 }, flv(stage.server.rtmp("cam", token)));
      assert.notEqual(await publisher.end(), 0, `a token ${what} was let in`);
      assert.equal(await stage.server.stream("cam", admin), undefined, `a token ${what} was let in`);
    }
  }),
);

test(
  "Good tokens open all three doors, and the session's URL needs one too",
  stage.act(async () => {
    await stage.ffmpeg({ source: 1, gopSeconds: 2 }, flv(stage.server.rtmp("cam", publish)));
    await until("the stream is live", () => stage.server.stream("cam", admin));
    const viewer = await stage.viewer();
    const session = await viewer.start(stage.server.whep("cam"), subscribe);
    await viewer.sees(1);
    const byNobody = await fetch(session, { method: "DELETE" });
    assert.equal(byNobody.status, 401, await byNobody.text());
    const muxer = await stage.ffmpeg({ source: 2, gopSeconds: 2 }, whip(stage.server.whip("cam"), publish));
    await viewer.sees(2).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${muxer.stderr.join("\n")}`);
    });
    assert.equal(await viewer.stop(subscribe), 200);

    // Who has no headers to send gets URLs that work without.
    const bare = await stage.viewer();
    const resource = await bare.start(`${stage.server.whep("cam")}?token=${subscribe}`);
    await bare.sees(2);
    assert.equal((await fetch(resource, { method: "HEAD" })).status, 204);
    assert.equal(await bare.stop(), 200);
  }),
);

test(
  "Sessions end within a second of their token's exp: WHEP, WHIP, RTMP",
  stage.act(async () => {
    await stage.ffmpeg({ source: 1, gopSeconds: 1 }, flv(stage.server.rtmp("cam", publish)));
    await until("the stream is live", () => stage.server.stream("cam", admin));

    const viewer = await stage.viewer();
    const viewerExp = seconds(6);
    await viewer.start(stage.server.whep("cam"), sign({ stream: "cam", can: ["subscribe"], exp: viewerExp }));
    await viewer.sees(1);
    await measureFor(viewerExp * 1000 - Date.now() + 3000);
    const { shown } = await viewer.report();
    const lateMs = (shown.at(-1)?.atMs ?? Number.NaN) - viewerExp * 1000;
    record("WHEP: last picture after exp", lateMs, "ms", 1000);
    assert.ok(lateMs > -500, `the session ended ${-lateMs} ms before its time`);
    assert.ok(lateMs < 2000, `the session ended ${lateMs} ms after its time`);
    assert.ok(await stage.server.stream("cam", admin), "the publisher was taken along");
    await stage.clear();

    const doors = {
      RTMP: (token: string) => stage.ffmpeg({ source: 2, gopSeconds: 1 }, flv(stage.server.rtmp("brief", token))),
      WHIP: (token: string) => stage.publisher({ endpoint: stage.server.whip("brief"), token, source: 3 }),
    };
    for (const [door, open] of Object.entries(doors)) {
      const exp = seconds(8);
      await open(sign({ stream: "brief", can: ["publish"], exp }));
      await until("the stream is live", () => stage.server.stream("brief", admin));
      await until("the publisher is gone", async () => (await stage.server.stream("brief", admin)) === undefined, {
        withinMs: 12_000,
      });
      const publisherLateMs = Date.now() - exp * 1000;
      record(`${door}: publisher ended after exp`, publisherLateMs, "ms", 1000);
      assert.ok(publisherLateMs > -500 && publisherLateMs < 2000, `${door}: ${publisherLateMs} ms after exp`);
      await stage.clear();
    }
  }),
);

test(
  "ffmpeg's whip muxer ends when its session has: it neither hangs nor goes on sending to nobody",
  stage.act(async () => {
    const exp = seconds(6);
    const token = sign({ stream: "muxed", can: ["publish"], exp });
    const muxer = await stage.ffmpeg({ source: 1, gopSeconds: 1 }, whip(stage.server.whip("muxed"), token));
    await until("the stream is live", () => stage.server.stream("muxed", admin));
    await until("the session is over", async () => (await stage.server.stream("muxed", admin)) === undefined);
    // It waits 30 s for answers to its checks.
    assert.notEqual(await muxer.end(45_000), 0, "it takes the end for a success");
    record("WHIP, ffmpeg: its own end after exp", Date.now() - exp * 1000, "ms", 40_000);
  }),
);
