// What a viewer's report means.

import assert from "node:assert/strict";
import * as clock from "../clock.ts";
import type { ViewerReport } from "../page/viewer.ts";
import type { Viewer } from "./browser.ts";
import { percentile } from "./figures.ts";
import { measureFor } from "./wait.ts";

export interface Watched {
  p50Ms: number;
  p95Ms: number;
  /** Freezes, drops and losses within the measured time only. */
  freezes: number;
  lost: number;
  dropped: number;
  report: ViewerReport;
}

/** Measures a viewer that already plays, for so long. */
export async function watch(viewer: Viewer, forMs: number): Promise<Watched> {
  const before = (await viewer.report()).stats;
  await viewer.reset();
  await measureFor(forMs);
  const report = await viewer.report();
  const ages = report.shown.map((frame) => frame.ageMs);
  return {
    p50Ms: percentile(ages, 0.5),
    p95Ms: percentile(ages, 0.95),
    freezes: report.stats.freezeCount - before.freezeCount,
    lost: report.stats.packetsLost - before.packetsLost,
    dropped: report.stats.framesDropped - before.framesDropped,
    report,
  };
}

/** As `watch`, once more when the picture froze: a machine that is busy elsewhere freezes anybody's picture. */
export async function watchUndisturbed(viewer: Viewer, forMs: number): Promise<Watched> {
  const first = await watch(viewer, forMs);
  return first.freezes === 0 ? first : watch(viewer, forMs);
}

/** Frames came at their rate, the clock could be read, the sound was heard. */
export function assertPlays({ report, dropped }: Watched, forMs: number): void {
  const expected = (forMs / 1000) * clock.FPS;
  const { shown, unreadable, stats } = report;
  // Pictures of a WHIP stream are shown the moment they are decoded: of two that come within one refresh of the screen,
  // the browser shows the later one. A publisher that sends in pairs shows half; less than that is broken.
  assert.ok(shown.length > expected * 0.5, `${shown.length} of ${expected} pictures were shown, ${unreadable} were damaged: ${JSON.stringify(stats)}`);
  assert.ok(dropped <= expected / 20, `the decoder did not keep up, ${dropped} dropped: ${JSON.stringify(stats)}`);
  assert.ok(unreadable <= shown.length / 50, `${unreadable} pictures were damaged: ${JSON.stringify(stats)}`);
  // The hum alone has an energy of 0.00125 per second.
  assert.ok(stats.audioEnergy > 0.001, `no sound: energy ${stats.audioEnergy}`);
  assert.ok(report.rms > clock.HUM_GAIN / 4, `no sound: level ${report.rms}`);
}

/**
 * How much later the sound comes than its picture, in milliseconds: the median over the beeps heard in the second half of the time. A
 * browser brings the two together by steps, which takes some ten seconds from its first picture on.
 */
export function soundAfterPictureMs({ report }: Watched): number {
  const [first, last] = [report.shown[0], report.shown.at(-1)].map((frame) => frame?.atMs ?? Number.NaN) as [number, number];
  const isLate = (atMs: number): boolean => atMs > (first + last) / 2;
  const beeps = report.beepsMs.filter(isLate);
  assert.ok(beeps.length >= 3, `${beeps.length} of ${report.beepsMs.length} beeps heard were in the second half`);
  const ages = report.shown.filter((frame) => isLate(frame.atMs)).map((frame) => frame.ageMs);
  return percentile(beeps.map((ms) => ms % 1000), 0.5) - percentile(ages, 0.5);
}
