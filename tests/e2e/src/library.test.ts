// The client library as the pages use it: sessions that outlive their path, connections that outlive their server.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Page } from "playwright-core";
import { launch, playing } from "./support/browser.ts";
import { record } from "./support/figures.ts";
import { MediaPath } from "./support/path.ts";
import { freePort, Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { until } from "./support/wait.ts";

/** What the pages tell of themselves. */
interface Told {
  state: string;
  reconnects: number;
  interruptions: number;
  freezes: number;
  frames: number;
  viewers: number | null;
}

const told = (page: Page): Promise<Told> => page.evaluate(() => (window as unknown as { sluice: Told }).sluice);

let path: MediaPath;
let port: number;
let server: Server;
const stage = new Stage();
const settings = (): Record<string, string> => ({
  HTTP__LISTEN: `127.0.0.1:${port}`,
  WEBRTC__ADVERTISE: path.advertised,
});

before(async () => {
  path = await MediaPath.open();
  port = await freePort();
  server = await Server.start(settings());
  path.leadTo(server.addresses.webrtc);
});
after(async () => {
  await server.stop();
  path.close();
});

async function open(url: string): Promise<Page> {
  const browser = await launch();
  stage.closeLater(() => browser.close());
  const page = await browser.newPage();
  // What WebRTC does by itself is looked at here, not what takes its place.
  await page.route("**/hls/**", (route) => route.abort());
  await page.goto(`${server.url}${url}`);
  return page;
}

async function onAir(stream: string): Promise<Page> {
  const page = await open(`/publish/${stream}?source=test&resolution=360&codec=VP8`);
  await page.getByTestId("start").click();
  await page.locator('[data-testid="state"][data-state="live"]').waitFor({ timeout: 15_000 });
  return page;
}

async function sessions(stream: string): Promise<{ publisher: string | undefined; viewers: string[] }> {
  const state = await server.stream(stream);
  return { publisher: state?.publisher?.session, viewers: state?.viewers.map(({ session }) => session) ?? [] };
}

test("A publisher and a viewer whose paths are cut find others, in the same sessions", async () => {
  try {
    const studio = await onAir("cut");
    const player = await open("/watch/cut");
    await playing(player);
    const before = await sessions("cut");
    assert.equal(before.viewers.length, 1);
    path.cut();
    const beganMs = Date.now();
    // What was on its way is shown; then nothing moves until both have another path.
    await until("the picture stands", async () => (await told(player)).state !== "playing", { withinMs: 15_000 });
    await playing(player);
    await studio.locator('[data-testid="state"][data-state="live"]').waitFor({ timeout: 10_000 });
    record("media path cut for publisher and viewer: until pictures move again", Date.now() - beganMs, "ms", 10_000);
    assert.deepEqual(await sessions("cut"), before);
    assert.equal((await told(studio)).reconnects, 0);
    assert.equal((await told(player)).reconnects, 0);
  } finally {
    await stage.clear();
  }
});

test("A changed network makes both look for another path, and nobody sees it", async () => {
  try {
    const studio = await onAir("moved");
    const player = await open("/watch/moved");
    await playing(player);
    const before = await sessions("moved");
    const restarts = (page: Page): Promise<number> =>
      page.evaluate(() => performance.getEntriesByType("resource").filter(({ name }) => /\/wh[ie]p\/moved\/[^/]+$/.test(name)).length);
    const asked = { studio: await restarts(studio), player: await restarts(player) };
    const { freezes } = await told(player);
    for (const page of [studio, player]) await page.evaluate(() => dispatchEvent(new Event("online")));
    await until("both have asked the server", async () => (await restarts(studio)) > asked.studio && (await restarts(player)) > asked.player);
    // The old paths carry nothing any more once the new ones do.
    await playing(player);
    assert.deepEqual(await sessions("moved"), before);
    const now = await told(player);
    assert.equal(now.interruptions, 0);
    assert.ok(now.freezes - freezes <= 1, `${now.freezes - freezes} freezes`);
  } finally {
    await stage.clear();
  }
});

test("A server that is restarted, politely or not, gets its publisher and viewer back", async () => {
  try {
    const studio = await onAir("again");
    const player = await open("/watch/again");
    await playing(player);
    for (const [round, end] of [() => server.stop(), () => kill(server)].entries()) {
      await end();
      server = await Server.start(settings());
      path.leadTo(server.addresses.webrtc);
      await until("the publisher is back", () => server.stream("again"), { withinMs: 30_000 });
      await until("the viewer is back", async () => (await told(player)).reconnects > round, { withinMs: 30_000 });
      await playing(player);
      await studio.locator('[data-testid="state"][data-state="live"]').waitFor({ timeout: 10_000 });
    }
  } finally {
    await stage.clear();
  }
});

test("A publisher that is ended by the server stays away, and says why", async () => {
  try {
    const studio = await onAir("kicked");
    const response = await fetch(`${server.url}/api/v1/streams/kicked/publisher`, { method: "DELETE" });
    assert.ok(response.ok, await response.text());
    await studio.locator('[data-testid="state"][data-state="idle"]').waitFor({ timeout: 10_000 });
    assert.match((await studio.getByTestId("message").textContent()) ?? "", /ended this session/);
  } finally {
    await stage.clear();
  }
});

test("The player shows how many watch", async () => {
  try {
    await onAir("counted");
    const player = await open("/watch/counted");
    await playing(player);
    await player.getByTestId("viewers").getByText("1 viewer", { exact: true }).waitFor({ timeout: 15_000 });
    await open("/watch/counted");
    await player.getByTestId("viewers").getByText("2 viewers", { exact: true }).waitFor({ timeout: 15_000 });
  } finally {
    await stage.clear();
  }
});

async function kill(of: Server): Promise<void> {
  const ended = new Promise((resolve) => of.process.once("exit", resolve));
  of.process.kill("SIGKILL");
  await ended;
}
