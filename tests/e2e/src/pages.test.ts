// The pages that people see, in a browser, against the real server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { playing } from "./support/browser.ts";
import { flv } from "./support/ffmpeg.ts";
import { Stage } from "./support/stage.ts";
import { until } from "./support/wait.ts";

const stage = Stage.set();

test(
  "A test pattern is published from the page, watched on the page, and the player survives the publisher's break",
  stage.act(async () => {
    const studio = await stage.page("/publish/demo");
    await studio.page.getByTestId("source-test").check();
    await studio.page.getByTestId("start").click();
    await studio.page.locator('[data-testid="state"][data-state="live"]').waitFor({ timeout: 15_000 });

    const player = await stage.page("/watch/demo");
    await playing(player.page);
    const video = player.page.getByTestId("video");
    assert.equal(await video.evaluate((v: HTMLVideoElement) => v.muted), true, "it starts muted");
    await player.page.getByTestId("unmute").click();
    assert.equal(await video.evaluate((v: HTMLVideoElement) => v.muted), false, "a click gives sound");
    await until("the delay is shown", async () => /\d/.test((await player.page.getByTestId("latency").textContent()) ?? ""));
    await player.page.getByTestId("info").click();
    await player.page.getByTestId("stats").waitFor();

    const dashboard = await stage.page("/");
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
    const player = await stage.page("/watch/later");
    await player.page.getByTestId("headline").waitFor();
    await stage.publisher({ endpoint: stage.server.whip("later"), source: 1 });
    await playing(player.page);
  }),
);

test(
  "The dashboard names the port that RTMP really has, and the size of the pictures",
  stage.act(async () => {
    const { server } = stage;
    await stage.ffmpeg({ source: 1, gopSeconds: 2 }, flv(server.rtmp("sized")));
    const { page } = await stage.page("/");
    await page.getByRole("tab", { name: "OBS, RTMP" }).click();
    const port = (server.addresses.rtmp ?? "").split(":").at(-1);
    await page.getByTestId("url-rtmp-server").and(page.getByText(`rtmp://127.0.0.1:${port}/live`)).waitFor();
    const card = page.locator('[data-testid="stream"][data-stream="sized"]');
    await card.getByText("640 × 360").waitFor({ timeout: 10_000 });
  }),
);
