// Networks that let web pages through and nothing else: pictures come by HLS then, and by WebRTC again as soon as they can.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Page } from "playwright-core";
import { playing } from "./support/browser.ts";
import { flv } from "./support/ffmpeg.ts";
import { record } from "./support/figures.ts";
import { FarNetwork, IPV4, NO_NETWORKS } from "./support/network.ts";
import { ScreenRecording } from "./support/screen.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

/** The picture's share of a bright page; black would be 0, and the clock's picture is far from it. */
const DARKEST_SHARE = 0.5;

/** What the page tells of itself. */
interface Told {
  state: string;
  transport: string | null;
  events: { atMs: number; what: string }[];
}

const told = (page: Page): Promise<Told> => page.evaluate(() => (window as unknown as { sluice: Told }).sluice);

async function comesBy(page: Page, transport: string, withinMs: number): Promise<number> {
  const began = Date.now();
  await until(`pictures by ${transport}`, async () => {
    const now = await told(page);
    return now.transport === transport && now.state === "playing";
  }, { withinMs }).catch(async (error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify(await told(page))}`);
  });
  return Date.now() - began;
}

describe("Over a network", { skip: NO_NETWORKS }, () => {
  let far: FarNetwork;
  before(async () => {
    far = await FarNetwork.open(IPV4);
  });
  const doors = { HTTP__LISTEN: "0.0.0.0:0", WEBRTC__LISTEN: "0.0.0.0:0", WEBRTC__ADVERTISE: IPV4.near, AUTH__ALLOW_OPEN: "true" };
  const stage = Stage.set(doors, "0.0.0.0");
  after(() => far.close());

  /** No UDP, and no TCP to the port of WebRTC. */
  async function block(): Promise<void> {
    const port = stage.server.addresses.webrtc.split(":").at(-1) ?? "";
    await far.lose("far", "-p", "udp");
    await far.lose("near", "-p", "tcp", "--dport", port);
  }

  async function watch(stream: string): Promise<{ page: Page; complaints: string[]; loaded: string[] }> {
    const loaded: string[] = [];
    const { page, complaints } = await stage.page(
      `/watch/${stream}`,
      async (page) => page.on("request", (request) => void loaded.push(new URL(request.url()).pathname)),
      stage.server,
      far,
    );
    return { page, complaints, loaded };
  }

  test(
    "Where WebRTC is blocked the page plays by HLS, and goes over to WebRTC without a black picture when it is not",
    stage.act(async () => {
      const { server } = stage;
      await stage.ffmpeg({ source: 1, gopSeconds: 1 }, flv(server.rtmp("blocked")));
      await until("the stream is live", () => server.stream("blocked"));
      stage.closeLater(() => far.loseNothing());
      await block();
      const { page, complaints } = await watch("blocked");
      const byHlsMs = await comesBy(page, "hls", 30_000);
      record("no way for WebRTC: page opened to pictures by HLS", byHlsMs, "ms", 8000);
      await playing(page);
      await page.getByTestId("transport").getByText("HLS", { exact: true }).waitFor();
      await page.keyboard.press("i");
      await page.locator('[data-stat="transport"]').getByText("HLS").waitFor();
      await page.keyboard.press("i");
      // It stays so, and WebRTC's attempts are not seen.
      await measureFor(10_000);
      assert.deepEqual((await told(page)).state, "playing");
      const recording = await ScreenRecording.start(page);
      await measureFor(1000);
      await far.loseNothing();
      const byWebrtcMs = await comesBy(page, "webrtc", 45_000);
      record("WebRTC is let through again: until its pictures take over", byWebrtcMs, "ms", 25_000);
      await playing(page);
      assert.equal(await page.getByTestId("transport").isVisible(), false);
      const brightness = await recording.brightness();
      const usual = brightness.toSorted((one, other) => one - other)[Math.floor(brightness.length / 2)] ?? 0;
      const darkest = Math.min(...brightness);
      record("HLS gives way to WebRTC: darkest picture meanwhile, of the usual brightness", (100 * darkest) / usual, "%", 100);
      assert.ok(brightness.length > 10, `${brightness.length} pictures were recorded`);
      assert.ok(darkest > usual * DARKEST_SHARE, `a picture of ${darkest} among those of ${usual}`);
      assert.deepEqual(complaints, []);
    }),
  );

  test(
    "A viewer whose network begins to block WebRTC goes over to HLS and back, and asks for hls.js only then",
    stage.act(async () => {
      const { server } = stage;
      await stage.ffmpeg({ source: 2, gopSeconds: 1 }, flv(server.rtmp("closing")));
      await until("the stream is live", () => server.stream("closing"));
      stage.closeLater(() => far.loseNothing());
      const { page, complaints, loaded } = await watch("closing");
      await playing(page);
      assert.equal((await told(page)).transport, "webrtc");
      assert.deepEqual(loaded.filter((path) => /hls/.test(path)), []);
      await block();
      record("WebRTC is blocked on the way: until pictures come by HLS", await comesBy(page, "hls", 40_000), "ms", 15_000);
      await playing(page);
      assert.ok(loaded.some((path) => /^\/assets\/hls-/.test(path)), loaded.join(" "));
      await far.loseNothing();
      await comesBy(page, "webrtc", 45_000);
      await playing(page);
      const connected = async (): Promise<number | undefined> =>
        (await server.stream("closing"))?.viewers.filter((viewer) => viewer.connected).length;
      await until("one session is left", async () => (await connected()) === 1);
      assert.deepEqual(complaints, []);
    }),
  );

  test(
    "A stream that ends while it is seen by HLS is not live, and is seen again by itself when it comes back",
    stage.act(async () => {
      const { server } = stage;
      const publisher = await stage.ffmpeg({ source: 3, gopSeconds: 1 }, flv(server.rtmp("ends")));
      await until("the stream is live", () => server.stream("ends"));
      stage.closeLater(() => far.loseNothing());
      await block();
      const { page } = await watch("ends");
      await comesBy(page, "hls", 30_000);
      await publisher.kill();
      await page.getByText("is not live").waitFor({ timeout: 30_000 });
      await stage.ffmpeg({ source: 4, gopSeconds: 1 }, flv(server.rtmp("ends")));
      await comesBy(page, "hls", 40_000);
      await playing(page);
    }),
  );
});
