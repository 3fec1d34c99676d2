// hls.js in Chromium, on a page of its own.

import assert from "node:assert/strict";
import type { Browser, Page } from "playwright-core";
import * as clock from "../clock.ts";
import type { HlsReport } from "../page/hls.ts";
import { open, type Pages } from "./browser.ts";
import { percentile } from "./figures.ts";
import { measureFor, until } from "./wait.ts";

export class HlsPlayer {
  private constructor(
    readonly browser: Browser,
    readonly page: Page,
  ) {}

  static async open(pages: Pages): Promise<HlsPlayer> {
    const { browser, page } = await open(pages, "hls");
    return new HlsPlayer(browser, page);
  }

  start(url: string, token?: string): Promise<void> {
    return this.page.evaluate(([u, t]) => window.hlsPlayer.start(u, t), [url, token] as const);
  }

  report(): Promise<HlsReport> {
    return this.page.evaluate(() => window.hlsPlayer.report());
  }

  reset(): Promise<void> {
    return this.page.evaluate(() => window.hlsPlayer.reset());
  }

  /** Keeps to the variant of so many rows. */
  lockLevel(rows: number): Promise<void> {
    return this.page.evaluate((height) => window.hlsPlayer.lockLevel(height), rows);
  }

  /** Waits until frames of this source are on the screen. */
  async sees(source: number, withinMs = 15_000): Promise<void> {
    const framesOf = (): Promise<number> => this.page.evaluate((s) => window.hlsPlayer.framesOf(s), source);
    try {
      await until(`hls.js shows source ${source}`, async () => (await framesOf()) >= 3, { withinMs });
    } catch (error) {
      const { errors, levels, shown } = await this.report();
      throw new Error(`${String(error)}: ${JSON.stringify({ errors, levels, shown: shown.length })}`);
    }
  }

  close(): Promise<void> {
    return this.browser.close();
  }
}

export interface Played {
  p50Ms: number;
  p95Ms: number;
  report: HlsReport;
}

/** Watches for so long; pictures came at their rate, in order, whole, and with sound. */
export async function play(player: HlsPlayer, forMs: number): Promise<Played> {
  await player.reset();
  await measureFor(forMs);
  const report = await player.report();
  const { shown, unreadable, heard } = report;
  const expected = (forMs / 1000) * clock.FPS;
  const details = JSON.stringify({ errors: report.errors, stalls: report.stalls, latencyS: report.latencyS });
  assert.ok(shown.length > expected * 0.8, `${shown.length} of ${expected} pictures were shown: ${details}`);
  assert.ok(unreadable <= shown.length / 50, `${unreadable} pictures were damaged: ${details}`);
  const drawnMs = shown.map((frame) => frame.atMs - frame.ageMs);
  assert.deepEqual(drawnMs.filter((ms, i) => ms < (drawnMs[i - 1] ?? 0) - 1), [], "pictures went back in time");
  assert.ok(heard.rms > clock.HUM_GAIN / 4, `no sound: level ${heard.rms}; ${details}`);
  const ages = shown.map((frame) => frame.ageMs);
  return { p50Ms: percentile(ages, 0.5), p95Ms: percentile(ages, 0.95), report };
}

/** How much later the sound comes than its picture, in milliseconds. */
export function soundAfterPicture({ report, p50Ms }: Played): number {
  assert.ok(report.heard.beepsMs.length >= 3, `${report.heard.beepsMs.length} beeps heard`);
  return percentile(report.heard.beepsMs.map((ms) => (ms - p50Ms + 1000) % 1000), 0.5);
}
