/** Waits that end early, and requests that do not wait for ever. */

const TIMED_OUT = "TimeoutError";

/** Aborted with `signal`, or after a time, in ms. `AbortSignal.any` and `.timeout` are too new for some browsers in use. */
export function timeLimit(signal: AbortSignal, ms: number): AbortSignal {
  const limited = new AbortController();
  const timer = setTimeout(() => limited.abort(new DOMException("no answer in time", TIMED_OUT)), ms);
  limited.signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  if (signal.aborted) limited.abort(signal.reason);
  else signal.addEventListener("abort", () => limited.abort(signal.reason), { once: true, signal: limited.signal });
  return limited.signal;
}

export function isTimeOut(thrown: unknown): boolean {
  return thrown instanceof DOMException && thrown.name === TIMED_OUT;
}

/** Ends early, with the signal's reason thrown, when that is aborted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal.addEventListener("abort", onAbort, { once: true });
  });
}
