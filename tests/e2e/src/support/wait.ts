import { setTimeout as delay } from "node:timers/promises";

/** Asks again every `everyMs` until the answer is neither undefined nor false; fails with `what` after `withinMs`. */
export async function until<T>(
  what: string,
  ask: () => T | undefined | false | Promise<T | undefined | false>,
  { withinMs = 10_000, everyMs = 50 } = {},
): Promise<T> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (Date.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`);
    await delay(everyMs);
  }
}

/** Lets the thing under measurement run for a while. */
export const measureFor = delay;
