// Several qualities, as people have them: a box on the publisher's page, a menu on the player's.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { playing } from "./support/browser.ts";
import { record } from "./support/figures.ts";
import { usable } from "./support/readable.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

const stage = Stage.set();

/** Of the test pattern at 960 x 540. */
const WIDTHS = { h: 960, m: 480, l: 240 } as const;
const PHONE = { width: 360, height: 640 };

/** Goes live from the publisher's page with the box ticked by keyboard; gives the page once the API shows all three sizes. */
async function onAir(stream: string, codec: string): Promise<Page> {
  const { page } = await stage.page(`/publish/${stream}?source=test&resolution=540&fps=30&codec=${codec}`);
  const box = page.getByTestId("simulcast");
  assert.equal(await box.isChecked(), false, "one quality is the default");
  await box.focus();
  await page.keyboard.press("Space");
  assert.equal(await box.isChecked(), true);
  await page.getByTestId("start").click();
  await page.locator('[data-testid="state"][data-state="live"]').waitFor({ timeout: 15_000 });
  await until(
    "all three sizes are sent",
    async () => {
      const video = (await stage.server.stream(stream))?.tracks.find(({ kind }) => kind === "video");
      const sent = video?.layers.filter(({ active }) => active).map(({ rid, width }) => [rid, width]);
      return JSON.stringify(sent?.toSorted()) === JSON.stringify(Object.entries(WIDTHS).toSorted());
    },
    { withinMs: 20_000 },
  ).catch(async (error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify((await stage.server.stream(stream))?.tracks)}`);
  });
  return page;
}

/** Remembers the longest time without a picture from now on. */
async function watchFrames(page: Page): Promise<() => Promise<number>> {
  await page.getByTestId("video").evaluate((video: HTMLVideoElement) => {
    const seen = {
      longestMs: 0,
      lastMs: performance.now(),
      frame(nowMs: number): void {
        seen.longestMs = Math.max(seen.longestMs, nowMs - seen.lastMs);
        seen.lastMs = nowMs;
        video.requestVideoFrameCallback(seen.frame);
      },
    };
    video.requestVideoFrameCallback(seen.frame);
    Object.assign(window, { seen });
  });
  return () =>
    page.evaluate(() => {
      const { seen } = window as unknown as { seen: { longestMs: number; lastMs: number } };
      return Math.max(seen.longestMs, performance.now() - seen.lastMs);
    });
}

async function shows(page: Page, width: number): Promise<number> {
  const began = Date.now();
  const now = (): Promise<number> => page.getByTestId("video").evaluate((video: HTMLVideoElement) => video.videoWidth);
  await until(`pictures ${width} wide`, async () => (await now()) === width, { everyMs: 20 });
  return Date.now() - began;
}

test(
  "Three qualities come from the publisher's page, and a viewer chooses among them by keyboard, without a break",
  stage.act(async () => {
    const studio = await onAir("qualities", "VP8");
    const { page, complaints } = await stage.page("/watch/qualities");
    await playing(page);
    await shows(page, WIDTHS.h);
    const menu = page.getByTestId("quality");
    await menu.waitFor();
    const options = menu.locator("option");
    await until("the menu has all sizes", async () => (await options.count()) === 4);
    assert.deepEqual(
      await options.evaluateAll((all) => all.map((option) => option.textContent?.replace(/ · .*/, ""))),
      ["Automatic", "540p", "270p", "135p"],
    );
    // The publisher's own figures are of the whole size, not of a small one.
    await until("the publisher is told", async () => (await studio.locator('[data-stat="resolution"]').textContent())?.includes("960"));

    const longestMs = await watchFrames(page);
    await measureFor(1000);
    await page.keyboard.press("Tab");
    await until("Tab leads to the menu", async () => {
      if (await menu.evaluate((element) => element === document.activeElement)) return true;
      await page.keyboard.press("Tab");
      return false;
    }, { everyMs: 0 });
    const tookMs: number[] = [];
    // The arrows go down the list: 540p, 270p, 135p; then up to "Automatic" again.
    for (const [key, width] of [["ArrowDown", WIDTHS.h], ["ArrowDown", WIDTHS.m], ["ArrowDown", WIDTHS.l], ["Home", WIDTHS.h]] as const) {
      const before = await menu.inputValue();
      await page.keyboard.press(key);
      await until("another is chosen", async () => (await menu.inputValue()) !== before);
      tookMs.push(await shows(page, width));
      await measureFor(1200);
      await shows(page, width);
    }
    assert.equal(await menu.inputValue(), "", "automatic again");
    record("player's menu: quality chosen to its picture, the slowest of 4", Math.max(...tookMs), "ms", 500);
    const gapMs = await longestMs();
    record("player's menu: longest time between two pictures over 4 choices", gapMs, "ms", 150);
    assert.ok(gapMs < 500, `the picture stood still for ${gapMs} ms`);
    assert.deepEqual(complaints, []);

    // Chosen, it holds for the session after, too.
    await menu.selectOption("m");
    await shows(page, WIDTHS.m);
    const session = (await stage.server.stream("qualities"))?.viewers[0]?.session ?? "";
    const kicked = await fetch(`${stage.server.url}/api/v1/streams/qualities/viewers/${session}`, { method: "DELETE" });
    assert.equal(kicked.status, 204);
    await until("there is another session", async () => {
      const now = (await stage.server.stream("qualities"))?.viewers[0]?.session;
      return now !== undefined && now !== session;
    });
    await playing(page);
    await shows(page, WIDTHS.m);
    assert.equal(await menu.inputValue(), "m");
  }),
);

for (const codec of ["VP9", "AV1"]) {
  test(
    `The publisher's page sends three qualities in ${codec}, too`,
    stage.act(async () => {
      await onAir(`sizes-${codec.toLowerCase()}`, codec);
    }),
  );
}

test(
  "The box and the menu can be read and reached on a phone and a desk, dark and light",
  stage.act(async () => {
    const studio = await onAir("readable", "VP8");
    const player = (await stage.page("/watch/readable")).page;
    await playing(player);
    await player.getByTestId("quality").waitFor();
    for (const window of [PHONE, { width: 1280, height: 720 }]) {
      for (const colorScheme of ["dark", "light"] as const) {
        const where = `${window.width} wide, ${colorScheme}`;
        for (const page of [studio, player]) {
          await page.setViewportSize(window);
          await page.emulateMedia({ colorScheme });
        }
        await usable(studio, studio.locator("label", { has: studio.getByTestId("simulcast") }), `box, ${where}`);
        await usable(studio, studio.locator("#simulcast-hint"), `the box's hint, ${where}`);
        await usable(player, player.getByTestId("quality"), `menu, ${where}`);
      }
    }
  }),
);
