/**
 * Notices that nothing comes from the server any more, before the browser calls the connection interrupted: that takes Chromium more than
 * five seconds on a publisher's side, and by then a server has given it up. Reports of a peer connection in, one word out.
 */

import type { StatsReport } from "./stats.ts";

/** How often to look. */
export const LOOK_MS = 600;
/** So many looks in a row without a byte or a response: a server tells a publisher what it got several times a second. */
const SILENT_LOOKS = 4;

export class Silence {
  private last: number | null = null;
  private silentLooks = 0;

  /** True once for each silence, as soon as it is one. */
  begins(report: StatsReport): boolean {
    let heard = 0;
    report.forEach((entry: { type: string; bytesReceived?: number; responsesReceived?: number }) => {
      if (entry.type === "candidate-pair") heard += (entry.bytesReceived ?? 0) + (entry.responsesReceived ?? 0);
    });
    const silent = this.last !== null && heard > 0 && heard === this.last;
    this.last = heard;
    this.silentLooks = silent ? this.silentLooks + 1 : 0;
    return this.silentLooks === SILENT_LOOKS;
  }
}
