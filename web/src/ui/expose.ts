/**
 * `window.sluice`: what a page knows of itself, for tests and for tinkering in the console.
 *
 * Each page puts one object there and keeps it current; reading it costs nothing and changes nothing. Times are
 * `performance.now()` in ms; a figure that is not known yet is `null`. Fields are added freely and seldom renamed.
 * No token and no session URL is in it.
 */

export interface LogLine {
  readonly atMs: number;
  readonly what: string;
}

/** The newest lines, enough for a few minutes of reconnecting: 200 lines of some 100 bytes. */
const LOG_LINES_MAX = 200;

export class EventLog {
  readonly lines: LogLine[] = [];

  add(what: string): void {
    this.lines.push({ atMs: performance.now(), what });
    if (this.lines.length > LOG_LINES_MAX) this.lines.shift();
  }
}

declare global {
  interface Window {
    sluice?: object;
  }
}

export function expose<T extends object>(object: T): T {
  window.sluice = object;
  return object;
}
