/**
 * A viewer that comes back by itself: WHEP sessions one after the other, until told to stop.
 *
 * It waits while the stream is not live (409) or sends what this browser cannot decode (406), with growing pauses after failures, at
 * once when the network returns.
 * What cannot get better by waiting (no right, no such thing) ends it. It knows no page: pictures, words and buttons
 * are the caller's.
 */

import { Backoff, type BackoffOptions } from "./backoff";
import type { LossReason } from "./peer";
import { asSignallingError, type SignallingError } from "./problem";
import { watch, type WatchOptions, type WatchSession } from "./whep";

export type PlayerState =
  | "idle"
  /** An offer is out, or ICE and DTLS are being set up. */
  | "connecting"
  /** Media may flow. */
  | "connected"
  /** The server says that nobody publishes; asked again soon. */
  | "offline"
  /** The session was lost or could not be had; tried again soon. */
  | "waiting"
  /** Refused for good; `error` says why. */
  | "failed"
  | "stopped";

export interface PlayerChange {
  readonly state: PlayerState;
  /** Why, for `offline`, `waiting` after a refusal, and `failed`. */
  readonly error: SignallingError | null;
  /** Why, for `waiting` after a loss. */
  readonly lost: LossReason | null;
  /** How long until the next attempt, for `offline` and `waiting`. */
  readonly retryInMs: number | null;
}

export interface PlayerOptions extends Pick<WatchOptions, "url" | "token" | "configuration" | "fetch" | "createPeer"> {
  onChange(change: PlayerChange): void;
  /** A session was answered; its stream gets its tracks as they come. */
  onSession(session: WatchSession): void;
  readonly backoff?: BackoffOptions;
}

/** While nobody publishes, ask about this often unless the server names a time: a viewer waits at most so much longer. */
const OFFLINE_RETRY_MS = 2_000;
/** While the publisher sends what this browser cannot decode, ask about this often whether another has come. */
const UNDECODABLE_RETRY_MS = 5_000;
/** A server's longest wish that is obeyed; a viewer's patience ends sooner than a proxy's maintenance page thinks. */
const RETRY_AFTER_MOST_MS = 30_000;
/** A session that lived this long was good: the next failure starts with short waits again. */
const PROVEN_MS = 5_000;

export class Player {
  private readonly backoff: Backoff;
  private session: WatchSession | null = null;
  private opening: AbortController | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private connectedAtMs: number | null = null;
  private current: PlayerState = "idle";
  /** Sessions that were asked for, in all. */
  attempts = 0;
  /** Sessions that took the place of one that had been connected. */
  reconnects = 0;
  private wasConnected = false;

  constructor(private readonly options: PlayerOptions) {
    this.backoff = new Backoff(options.backoff);
  }

  get state(): PlayerState {
    return this.current;
  }

  start(): void {
    if (this.current !== "idle" && this.current !== "stopped" && this.current !== "failed") return;
    this.backoff.reset();
    void this.open();
  }

  /** Tries now instead of waiting further; for "the network is back" and for impatient people. */
  retryNow(): void {
    if (this.current === "offline" || this.current === "waiting" || this.current === "failed") void this.open();
  }

  /** Ends the session on both sides; safe while the page goes away. */
  stop(): void {
    this.close();
    this.change("stopped");
  }

  private change(state: PlayerState, detail: Partial<Omit<PlayerChange, "state">> = {}): void {
    this.current = state;
    this.options.onChange({ error: null, lost: null, retryInMs: null, ...detail, state });
  }

  private close(): void {
    clearTimeout(this.timer);
    this.opening?.abort(new DOMException("the player moved on", "AbortError"));
    this.opening = null;
    this.session?.stop();
    this.session = null;
  }

  private async open(): Promise<void> {
    this.close();
    const opening = new AbortController();
    this.opening = opening;
    this.attempts += 1;
    this.change("connecting");
    try {
      const session = await watch({
        ...this.options,
        signal: opening.signal,
        onConnected: () => this.connected(opening),
        onLost: (reason) => this.lost(opening, reason),
      });
      if (opening.signal.aborted) return session.stop();
      this.session = session;
      this.options.onSession(session);
    } catch (thrown) {
      if (!opening.signal.aborted) this.refused(asSignallingError(thrown));
    }
  }

  private connected(opening: AbortController): void {
    if (opening !== this.opening) return;
    if (this.wasConnected) this.reconnects += 1;
    this.wasConnected = true;
    this.connectedAtMs = performance.now();
    this.change("connected");
  }

  private lost(opening: AbortController, reason: LossReason): void {
    if (opening !== this.opening) return;
    this.session = null;
    if (this.connectedAtMs !== null && performance.now() - this.connectedAtMs >= PROVEN_MS) this.backoff.reset();
    this.connectedAtMs = null;
    this.retryIn(this.backoff.next(), "waiting", { lost: reason });
  }

  private refused(error: SignallingError): void {
    if (!error.isTransient) return this.change("failed", { error });
    const wish = error.retryAfterMs === null ? null : Math.min(error.retryAfterMs, RETRY_AFTER_MOST_MS);
    if (error.kind === "not-live") {
      // Nothing is wrong: no growing waits, so that a stream is seen soon after it starts.
      this.backoff.reset();
      return this.retryIn(wish ?? OFFLINE_RETRY_MS, "offline", { error });
    }
    if (error.kind === "undecodable") {
      this.backoff.reset();
      return this.retryIn(wish ?? UNDECODABLE_RETRY_MS, "waiting", { error });
    }
    this.retryIn(this.backoff.next(wish), "waiting", { error });
  }

  private retryIn(ms: number, state: "offline" | "waiting", detail: Partial<PlayerChange>): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.open(), ms);
    this.change(state, { ...detail, retryInMs: ms });
  }
}
