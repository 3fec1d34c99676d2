// The pages that people see, in a browser, against the real server.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { launch } from "./support/browser.ts";
import { Stage } from "./support/stage.ts";
import { until } from "./support/wait.ts";

const stage = Stage.set();

/** A page in a browser of its own, with what it complained about. */
async function open(path: string): Promise<{ page: Page; complaints: string[] }> {
  const browser = await launch();
  stage.closeLater(() => browser.close());
  const page = await browser.newPage();
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => {
    // Requests that are answered 404 or 409 while a stream is not live are how the pages find out.
    if (message.type() === "error" && !message.text().includes("Failed to load resource")) complaints.push(message.text());
  });
  const response = await page.goto(`${stage.server.url}${path}`);
  assert.equal(response?.status(), 200);
  return { page, complaints };
}

async function playing(page: Page): Promise<void> {
  await page.locator('[data-testid="player"][data-state="playing"]').waitFor({ timeout: 20_000 });
  const shown = (): Promise<number> =>
    page.getByTestId("video").evaluate((video: HTMLVideoElement) => video.getVideoPlaybackQuality().totalVideoFrames);
  const before = await shown();
  await until("the picture moves", async () => (await shown()) > before + 15);
}

test(
  "A test pattern is published from the page, watched on the page, and the player survives the publisher's break",
  stage.act(async () => {
    const studio = await open("/publish/demo");
    await studio.page.getByTestId("source-test").check();
    await studio.page.getByTestId("start").click();
    await studio.page.locator('[data-testid="state"][data-state="live"]').waitFor({ timeout: 15_000 });

    const player = await open("/watch/demo");
    await playing(player.page);
    const video = player.page.getByTestId("video");
    assert.equal(await video.evaluate((v: HTMLVideoElement) => v.muted), true, "it starts muted");
    await player.page.getByTestId("unmute").click();
    assert.equal(await video.evaluate((v: HTMLVideoElement) => v.muted), false, "a click gives sound");
    await until("the delay is shown", async () => /\d/.test((await player.page.getByTestId("latency").textContent()) ?? ""));
    await player.page.getByTestId("info").click();
    await player.page.getByTestId("stats").waitFor();

    const dashboard = await open("/");
    await dashboard.page.locator('[data-testid="stream"][data-stream="demo"][data-live="true"]').waitFor({ timeout: 10_000 });

    await studio.page.getByTestId("stop").click();
    await until("the stream ends", async () => (await stage.server.stream("demo")) === undefined);
    await studio.page.getByTestId("start").click();
    await studio.page.locator('[data-testid="state"][data-state="live"]').waitFor({ timeout: 15_000 });
    await playing(player.page);
    for (const { complaints } of [studio, player, dashboard]) assert.deepEqual(complaints, []);
  }),
);

test(
  "The player waits for a stream that is not live, and plays by itself when it comes",
  stage.act(async () => {
    const player = await open("/watch/later");
    await player.page.getByTestId("headline").waitFor();
    await stage.publisher({ endpoint: stage.server.whip("later"), source: 1 });
    await playing(player.page);
  }),
);
