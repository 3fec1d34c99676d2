/** Bearer tokens: a text, or a way to get one whenever one is needed. No token is ever put into a URL, a message or a log here. */

/**
 * A token; `null`: none (a server in open mode). A function is called before a session is opened and again before the token's
 * `exp`: the session is then renewed on its own URL. What it throws counts as a refusal with 401.
 */
export type TokenSource = string | null | (() => string | null | Promise<string | null>);

/** A token is renewed when a third of its time is left, but no more than a minute before its end. */
const RENEW_BEFORE_END_MS = 60_000;
/** The shortest time between two renewals. */
const RENEW_PAUSE_MS = 1_000;
/** What setTimeout takes (a signed 32-bit number of ms). */
const TIMER_MOST_MS = 2 ** 31 - 1;

/** When the payload of a JWT (RFC 7519) says that it ends, in ms from `nowMs`; `null` when it does not say, or is no JWT. */
export function lifetimeMs(token: string | null, nowMs: number): number | null {
  const payload = token?.split(".")[1];
  if (payload === undefined) return null;
  try {
    const claims: unknown = JSON.parse(atob(payload.replace(/-/g, "+").replace(/_/g, "/")));
    if (typeof claims !== "object" || claims === null) return null;
    const exp: unknown = Reflect.get(claims, "exp");
    return typeof exp === "number" && Number.isFinite(exp) ? exp * 1000 - nowMs : null;
  } catch {
    return null;
  }
}

/** How long from now until a token is to be renewed; `null`: never. */
export function renewalInMs(token: string | null, nowMs: number): number | null {
  const left = lifetimeMs(token, nowMs);
  if (left === null) return null;
  return Math.min(TIMER_MOST_MS, Math.max(RENEW_PAUSE_MS, left - Math.min(RENEW_BEFORE_END_MS, left / 3)));
}

export class Tokens {
  private latest: string | null = null;

  constructor(
    private readonly source: TokenSource,
    private readonly now: () => number = Date.now,
  ) {}

  /** Whether asking again may give another token. */
  get renewable(): boolean {
    return typeof this.source === "function";
  }

  /** The present one; asks for another when there is none or it is about to end. */
  async get(): Promise<string | null> {
    const left = lifetimeMs(this.latest, this.now());
    if (this.latest !== null && (left === null || left > RENEW_PAUSE_MS)) return this.latest;
    return this.fresh();
  }

  /** Asks for another one. */
  async fresh(): Promise<string | null> {
    this.latest = typeof this.source === "function" ? await this.source() : this.source;
    return this.latest;
  }

  /** How long until the present one is to be renewed, in ms; `null` when it cannot or need not be. */
  renewalInMs(): number | null {
    return this.renewable ? renewalInMs(this.latest, this.now()) : null;
  }
}
