/**
 * A clock inside the picture: the test pattern carries the time it was drawn as a strip of black and white cells, and
 * whoever sees the picture reads how old it is. Encoder, network, server, jitter buffer and decoder are all in it.
 *
 * 44 cells over the full width, at the top, a twentieth of the height: 4 for sync (1010), 32 for the low bits of Unix
 * time in ms, most significant first, 8 for a checksum. It survives scaling and heavy compression, since only each
 * cell's centre is read. Both ends' clocks must agree; on one machine they do.
 */

export const CLOCK_CELLS = 44;
/** The strip's share of the picture's height. */
export const CLOCK_STRIP = 1 / 20;

const SYNC = [true, false, true, false] as const;
const PERIOD_MS = 2 ** 32;

function checksum(ms: number): number {
  // Odd constants keep a plain shift of all bits from passing; XOR keeps an all-black strip (0) from passing.
  const folded = (ms ^ (ms >>> 8) ^ (ms >>> 16) ^ (ms >>> 24)) & 0xff;
  return (folded * 151 + 0x5a) & 0xff;
}

function bits(value: number, count: number): boolean[] {
  return Array.from({ length: count }, (_, index) => ((value >>> (count - 1 - index)) & 1) === 1);
}

/** The cells for a moment; true is white. */
export function clockCells(unixMs: number): boolean[] {
  const low = Math.floor(unixMs) % PERIOD_MS;
  return [...SYNC, ...bits(low, 32), ...bits(checksum(low), 8)];
}

/** The low 32 bits of the time that the cells' brightnesses (0 to 255) carry; `null` when they carry none. */
export function readClockCells(brightness: ArrayLike<number>): number | null {
  if (brightness.length !== CLOCK_CELLS) return null;
  const cells = Array.from(brightness, (level) => level >= 128);
  if (SYNC.some((bit, index) => cells[index] !== bit)) return null;
  const value = (from: number, count: number): number =>
    cells.slice(from, from + count).reduce((total, bit) => total * 2 + Number(bit), 0);
  const low = value(4, 32);
  return value(36, 8) === checksum(low) ? low : null;
}

/** How old a picture is, in ms; negative when its clock is ahead. */
export function ageMs(low: number, nowUnixMs: number): number {
  const age = (((nowUnixMs - low) % PERIOD_MS) + PERIOD_MS) % PERIOD_MS;
  return age > PERIOD_MS / 2 ? age - PERIOD_MS : age;
}

/** Draws the strip at the top of a picture. */
export function drawClock(context: CanvasRenderingContext2D, unixMs: number): void {
  const { width, height } = context.canvas;
  const cell = width / CLOCK_CELLS;
  const strip = Math.ceil(height * CLOCK_STRIP);
  clockCells(unixMs).forEach((white, index) => {
    context.fillStyle = white ? "#fff" : "#000";
    context.fillRect(Math.floor(index * cell), 0, Math.ceil(cell), strip);
  });
}

/** Reads the strip off a playing video. One per video: it keeps a canvas of a few pixels. */
export class ClockReader {
  private readonly context: CanvasRenderingContext2D | null;

  constructor() {
    const canvas = document.createElement("canvas");
    // Three pixels a cell, so that the middle one has no neighbour's colour in it.
    canvas.width = CLOCK_CELLS * 3;
    canvas.height = 3;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
  }

  /** The age in ms of the picture that is shown, seen at `nowUnixMs`; `null` when it carries no clock. */
  read(video: HTMLVideoElement, nowUnixMs: number): number | null {
    const { context } = this;
    if (!context || video.videoWidth === 0) return null;
    const { width, height } = context.canvas;
    context.drawImage(video, 0, 0, video.videoWidth, video.videoHeight * CLOCK_STRIP, 0, 0, width, height);
    const { data } = context.getImageData(0, 1, width, 1);
    const brightness = Array.from({ length: CLOCK_CELLS }, (_, cell) => {
      const at = (cell * 3 + 1) * 4;
      return ((data[at] ?? 0) + (data[at + 1] ?? 0) + (data[at + 2] ?? 0)) / 3;
    });
    const low = readClockCells(brightness);
    return low === null ? null : ageMs(low, nowUnixMs);
  }
}
