import { describe, expect, it } from "vitest";
import { Backoff } from "./backoff.ts";

const even = { random: () => 0.5 };

describe("Backoff", () => {
  it("doubles up to its bound and starts anew after a reset", () => {
    const backoff = new Backoff({ firstMs: 100, mostMs: 500, ...even });
    expect([1, 2, 3, 4, 5].map(() => backoff.next())).toEqual([100, 200, 400, 500, 500]);
    backoff.reset();
    expect(backoff.next()).toBe(100);
  });

  it("waits longer when the server asks for it, never shorter", () => {
    const backoff = new Backoff({ firstMs: 1_000, ...even });
    expect(backoff.next(5_000)).toBe(5_000);
    expect(backoff.next(10)).toBe(2_000);
  });

  it("spreads within its share", () => {
    expect(new Backoff({ firstMs: 1_000, spread: 0.2, random: () => 0 }).next()).toBe(800);
    expect(new Backoff({ firstMs: 1_000, spread: 0.2, random: () => 1 }).next()).toBe(1_200);
  });
});
