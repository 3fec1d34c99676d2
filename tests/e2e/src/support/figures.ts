// Figures: what was measured, with the bound that the project aims at. Printed as a table and kept beside the build.

import { appendFileSync, mkdirSync } from "node:fs";
import path from "node:path";

const FILE = path.resolve(import.meta.dirname, "../../../../target/e2e-figures.jsonl");

export interface Figure {
  what: string;
  value: number;
  unit: string;
  /** The aim; a noisy machine may miss it without failing the test. */
  aim: number;
}

export function record(what: string, value: number, unit: string, aim: number): void {
  const rounded = Math.round(value * 10) / 10;
  const figure: Figure = { what, value: rounded, unit, aim };
  mkdirSync(path.dirname(FILE), { recursive: true });
  // A line each: several files may run at one time. Of what is measured again the last counts.
  appendFileSync(FILE, `${JSON.stringify(figure)}\n`);
  console.log(`  ${rounded <= aim ? "met   " : "MISSED"} ${what}: ${rounded} ${unit} (aim ${aim})`);
}

/** The value that a share of all values do not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}
