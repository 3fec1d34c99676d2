/** How long to wait before trying again: doubling, bounded, spread so that a thousand viewers do not return at once. */

export interface BackoffOptions {
  /** The first wait, in ms. Default: 400. */
  readonly firstMs?: number;
  /** The longest wait, in ms. Default: 8000. */
  readonly mostMs?: number;
  /** 0 to 1: the share of a wait that chance may take away or add. Default: 0.2. */
  readonly spread?: number;
  /** For tests; like `Math.random`. */
  readonly random?: () => number;
}

export class Backoff {
  private attempts = 0;

  constructor(private readonly options: BackoffOptions = {}) {}

  /** The next wait in ms. A server's `Retry-After` is obeyed when it asks for more than the backoff would. */
  next(retryAfterMs: number | null = null): number {
    const { firstMs = 400, mostMs = 8_000, spread = 0.2, random = Math.random } = this.options;
    const plain = Math.min(mostMs, firstMs * 2 ** this.attempts);
    this.attempts = Math.min(this.attempts + 1, 16);
    return Math.round(Math.max(plain, retryAfterMs ?? 0) * (1 + spread * (2 * random() - 1)));
  }

  reset(): void {
    this.attempts = 0;
  }
}
