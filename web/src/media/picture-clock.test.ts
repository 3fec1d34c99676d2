import { describe, expect, it } from "vitest";
import { ageMs, CLOCK_CELLS, clockCells, readClockCells } from "./picture-clock";

const NOW = Date.parse("2026-11-20T12:34:56.789Z");
const shades = (cells: boolean[], black = 0, white = 255): number[] => cells.map((cell) => (cell ? white : black));

describe("the clock in the picture", () => {
  it("is read back to the millisecond, also washed out", () => {
    for (const at of [NOW, NOW + 1, 2 ** 32 - 1, 2 ** 32, 0]) {
      const cells = clockCells(at);
      expect(cells).toHaveLength(CLOCK_CELLS);
      expect(readClockCells(shades(cells))).toBe(at % 2 ** 32);
      expect(readClockCells(shades(cells, 100, 160))).toBe(at % 2 ** 32);
    }
  });

  it("notices any single cell that is wrong", () => {
    const cells = clockCells(NOW);
    for (let at = 0; at < CLOCK_CELLS; at += 1) {
      const wrong = cells.map((cell, index) => (index === at ? !cell : cell));
      expect(readClockCells(shades(wrong)), `cell ${at}`).toBeNull();
    }
  });

  it("is not seen in pictures without one", () => {
    expect(readClockCells(new Array<number>(CLOCK_CELLS).fill(0))).toBeNull();
    expect(readClockCells(new Array<number>(CLOCK_CELLS).fill(255))).toBeNull();
    expect(readClockCells([])).toBeNull();
  });

  it("tells ages across the wrap of its 32 bits, and clocks that are ahead", () => {
    expect(ageMs(NOW % 2 ** 32, NOW + 35)).toBe(35);
    expect(ageMs(2 ** 32 - 10, 2 ** 32 + 5)).toBe(15);
    expect(ageMs((NOW + 20) % 2 ** 32, NOW)).toBe(-20);
  });
});
