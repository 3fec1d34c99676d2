// A clock carried by the picture: whoever sees a frame knows when it was drawn, whatever stood between.
//
// The top of the picture is a grid of black and white cells: 32 bits of milliseconds since the epoch, 4 bits that say
// who drew it, 4 bits of checksum. Below stands a block that flashes white while the sound beeps.

export const WIDTH = 640;
export const HEIGHT = 360;
export const FPS = 30;

export const COLUMNS = 10;
export const ROWS = 4;
export const CELL_WIDTH = WIDTH / COLUMNS;
export const CELL_HEIGHT = 40;

/** The flashing block, in pixels. */
export const FLASH = { x: 0, y: 200, width: 160, height: 160 } as const;
/** Flash and beep begin at every full second of the epoch and last this long. */
export const FLASH_MS = 100;
export const BEEP_HZ = 1000;
export const BEEP_GAIN = 0.8;
/** Between the beeps a hum, so that there is always something to hear. */
export const HUM_HZ = 440;
export const HUM_GAIN = 0.05;

const BITS = COLUMNS * ROWS;

export interface Reading {
  /** Milliseconds since the epoch, modulo 2^32. */
  ms: number;
  source: number;
}

export function isFlashing(ms: number): boolean {
  return ms % 1000 < FLASH_MS;
}

/** The cells, row by row; true is white. */
export function encode(ms: number, source: number): boolean[] {
  const low = ms % 2 ** 32;
  const digits = [...nibbles(low), source & 15];
  digits.push(checksum(digits));
  return digits.flatMap((digit) => [8, 4, 2, 1].map((bit) => (digit & bit) !== 0));
}

/** What the cells say; undefined when the checksum does not hold (no clock, or a damaged picture). */
export function decode(cells: readonly boolean[]): Reading | undefined {
  if (cells.length !== BITS) return undefined;
  const digits: number[] = [];
  for (let at = 0; at < BITS; at += 4) {
    digits.push(cells.slice(at, at + 4).reduce((sum, white) => sum * 2 + Number(white), 0));
  }
  const check = digits.pop();
  if (check !== checksum(digits)) return undefined;
  const source = digits.pop() ?? 0;
  return { ms: digits.reduce((sum, digit) => sum * 16 + digit, 0), source };
}

/** How long ago a reading was drawn. */
export function age(reading: Reading, nowMs: number): number {
  const difference = (nowMs % 2 ** 32) - reading.ms;
  return difference < -(2 ** 31) ? difference + 2 ** 32 : difference;
}

function nibbles(value: number): number[] {
  return [28, 24, 20, 16, 12, 8, 4, 0].map((shift) => Math.floor(value / 2 ** shift) % 16);
}

// Starts at a constant so that neither an all-black nor an all-white picture reads as a time.
function checksum(digits: readonly number[]): number {
  return digits.reduce((sum, digit, index) => (sum * 3 + digit + index) & 15, 9);
}
