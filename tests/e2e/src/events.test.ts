// What a viewer's client is told by server-sent events, as a browser's EventSource reads them.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Viewer } from "./support/browser.ts";
import { flv } from "./support/ffmpeg.ts";
import { Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { until } from "./support/wait.ts";

const stage = Stage.set();

/** Opens an event stream of the session and reads it in the viewer's page; gives what came so far, each "name data". */
async function listen({ page }: Viewer, session: string): Promise<() => Promise<string[]>> {
  const names = ["active", "inactive", "layers", "reconnect", "viewercount"];
  await page.evaluate(
    async ([session, names]) => {
      const headers = { "content-type": "application/json" };
      const created = await fetch(`${session}/events`, { method: "POST", headers, body: JSON.stringify(names) });
      if (created.status !== 201) throw new Error(`${created.status} ${await created.text()}`);
      const told: string[] = [];
      const source = new EventSource(new URL(created.headers.get("location") ?? "", session));
      for (const name of names) {
        source.addEventListener(name, (event) => told.push(`${name} ${(event as MessageEvent<string>).data}`));
      }
      source.addEventListener("error", () => told.push(source.readyState === EventSource.CLOSED ? "closed" : "away"));
      Object.assign(window, { told });
    },
    [session, names] as const,
  );
  return () => page.evaluate(() => (window as unknown as { told: string[] }).told);
}

test(
  "A viewer's page is told of publishers and viewers as they come and go, and to come again when it is ended",
  stage.act(async () => {
    const { server } = stage;
    const first = await stage.ffmpeg({ source: 1, gopSeconds: 2 }, flv(server.rtmp("told")));
    const viewer = await stage.viewer();
    const session = await viewer.start(server.whep("told"));
    await viewer.sees(1);
    const told = await listen(viewer, session);
    const comes = (event: string, times = 1): Promise<boolean> =>
      until(`${event} (${times})`, async () => (await told()).filter((other) => other === event).length >= times);
    await comes("active {}");
    await comes('viewercount {"viewercount":1}');
    await until("the layers", async () => (await told()).some((event) => event.startsWith("layers {")));

    const second = await stage.viewer();
    await second.start(server.whep("told"));
    await comes('viewercount {"viewercount":2}');
    await second.stop();
    await comes('viewercount {"viewercount":1}', 2);

    await first.kill();
    await comes("inactive {}");
    await stage.ffmpeg({ source: 2, gopSeconds: 2 }, flv(server.rtmp("told")));
    await comes("active {}", 2);

    const id = new URL(session).pathname.split("/").at(-1) ?? "";
    const kicked = await fetch(`${server.url}/api/v1/streams/told/viewers/${id}`, { method: "DELETE" });
    assert.equal(kicked.status, 204);
    await comes("reconnect {}");
    // The EventSource comes back, and is told that there is nothing any more.
    await comes("closed");
    const order = (await told()).filter((event) => /^(in)?active|^reconnect/.test(event));
    assert.deepEqual(order, ["active {}", "inactive {}", "active {}", "reconnect {}"]);
  }),
);

test(
  "A viewer's page is told to come again when the server stops",
  stage.act(async () => {
    const server = await Server.start();
    stage.closeLater(async () => void (await server.stop()));
    await stage.ffmpeg({ source: 1, gopSeconds: 2 }, flv(server.rtmp("stopping")));
    const viewer = await stage.viewer();
    const told = await listen(viewer, await viewer.start(server.whep("stopping")));
    await until("the stream is active", async () => (await told()).includes("active {}"));
    await server.stop();
    await until("the page is told", async () => (await told()).includes("reconnect {}"));
  }),
);

test(
  "A session's answer names its extensions, and they refuse what they do not know",
  stage.act(async () => {
    const { server } = stage;
    await stage.ffmpeg({ source: 1, gopSeconds: 2 }, flv(server.rtmp("asked")));
    const viewer = await stage.viewer();
    const session = await viewer.start(server.whep("asked"));
    const post = async (resource: string, body: unknown): Promise<[number, string]> => {
      const headers = { "content-type": "application/json" };
      const response = await fetch(`${session}/${resource}`, { method: "POST", headers, body: JSON.stringify(body) });
      return [response.status, await response.text()];
    };
    const [status, text] = await post("events", ["active", "scte35"]);
    assert.equal(status, 400);
    assert.match(text, /scte35/);
    assert.equal((await post("layer", { maxWidth: 640 }))[0], 200);
    assert.equal((await post("layer", { rid: "none" }))[0], 422);
    assert.equal((await post("other", {}))[0], 404);
    assert.equal(await viewer.stop(), 200);
    assert.equal((await post("events", ["active"]))[0], 404);
  }),
);
