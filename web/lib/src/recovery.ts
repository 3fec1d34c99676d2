/**
 * A connection that comes back by itself: sessions one after the other, until told to stop.
 *
 * It waits while a stream is not live (409), with growing pauses after failures, at once when the network returns. What cannot
 * get better by waiting (no right, no such thing) ends it.
 */

import { Backoff, type BackoffOptions } from "./backoff.ts";
import type { LossReason } from "./peer.ts";
import { asSignallingError, SignallingError } from "./problem.ts";
import type { Session } from "./session.ts";

export type ConnectionState =
  /** An offer is out, or ICE and DTLS are being set up. */
  | "connecting"
  /** Media may flow. */
  | "connected"
  /** The path does not answer; another one is looked for (ICE restart). */
  | "interrupted"
  /** Viewers only: the server says that nobody publishes; asked again soon. */
  | "offline"
  /** The session was lost or could not be had; tried again soon. */
  | "waiting"
  /** Given up; `error` says why. */
  | "failed"
  /** `close()` was called. */
  | "closed";

export interface StateChange {
  readonly state: ConnectionState;
  readonly previous: ConnectionState;
  /** Why, for `offline`, `waiting` after a refusal, and `failed`. */
  readonly error: SignallingError | null;
  /** Why, for `waiting` after a loss. */
  readonly lost: LossReason | null;
  /** How long until the next attempt in ms, for `offline` and `waiting`; `null` while the server is asked whether there is to be one. */
  readonly retryInMs: number | null;
}

export interface ReconnectOptions extends BackoffOptions {
  /** Failures in a row after which it is given up. A stream that is not live is no failure. */
  readonly attemptsMax?: number;
}

export interface RecoveryOptions {
  readonly reconnect: ReconnectOptions;
  open(signal: AbortSignal, callbacks: SessionCallbacks): Promise<Session>;
  onChange(change: StateChange): void;
  /** A session was answered. */
  onSession(session: Session): void;
  /** Whether a loss is to be followed by another session; an error: no, and why. `null` at once where there is nothing to ask. */
  afterLoss(reason: LossReason, signal: AbortSignal): null | Promise<SignallingError | null>;
}

/** What a session tells whoever opened it. */
export interface SessionCallbacks {
  onConnected(): void;
  onInterrupted(): void;
  onLost(reason: LossReason): void;
}

/** While nobody publishes, ask about this often unless the server names a time: a viewer waits at most so much longer. */
const OFFLINE_RETRY_MS = 2_000;
/** While the publisher sends what this browser cannot decode, ask about this often whether another has come. */
const UNDECODABLE_RETRY_MS = 5_000;
/** A server's longest wish that is obeyed; a viewer's patience ends sooner than a proxy's maintenance page thinks. */
const RETRY_AFTER_MOST_MS = 30_000;
/** While the stream is seen in another way, sessions are asked for this seldom: each costs the server one that may come to nothing. */
const UNHURRIED_FIRST_MS = 5_000;
const UNHURRIED_MOST_MS = 60_000;
/** A session that lived this long was good: the next failure starts with short waits again. */
const PROVEN_MS = 5_000;

export class Recovery {
  private readonly backoff: Backoff;
  private unhurriedBackoff: Backoff | null = null;
  private opening: AbortController | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private connectedAtMs: number | null = null;
  private wasConnected = false;
  private failures = 0;
  session: Session | null = null;
  state: ConnectionState = "connecting";
  /** Sessions that were asked for, in all. */
  attempts = 0;
  /** Sessions that took the place of one that had been connected. */
  reconnects = 0;

  constructor(private readonly options: RecoveryOptions) {
    this.backoff = new Backoff(options.reconnect);
  }

  /** Tries now: at first, instead of waiting further, or again after it was given up. Nothing happens while a session is there. */
  openNow(): void {
    if (this.opening === null && this.state !== "closed") void this.open();
  }

  /** Whether the stream is seen in another way meanwhile, so that failures are followed by longer waits from now on. */
  set unhurried(unhurried: boolean) {
    const times = { firstMs: UNHURRIED_FIRST_MS, mostMs: UNHURRIED_MOST_MS };
    this.unhurriedBackoff = unhurried ? new Backoff({ ...this.options.reconnect, ...times }) : null;
  }

  /** For "the network is back" and for impatient people. */
  retryNow(): void {
    if (["offline", "waiting", "failed"].includes(this.state)) {
      if (this.state === "failed") this.failures = 0;
      void this.open();
    }
  }

  /** Leaves the session for another one, after a first wait: a server that asks for this asks many. */
  replace(): void {
    this.session?.lose("asked-to-reconnect");
  }

  /** Ends the session and stays without one, until `openNow()`. */
  async suspend(): Promise<void> {
    await this.leave();
  }

  /** Ends the session on both sides, for good; safe while the page goes away. */
  async close(): Promise<void> {
    const left = this.leave();
    if (this.state !== "closed") this.change("closed");
    await left;
  }

  private change(state: ConnectionState, detail: Partial<Omit<StateChange, "state" | "previous">> = {}): void {
    const previous = this.state;
    this.state = state;
    this.options.onChange({ error: null, lost: null, retryInMs: null, ...detail, state, previous });
  }

  private async leave(): Promise<void> {
    clearTimeout(this.timer);
    this.opening?.abort(new DOMException("the connection moved on", "AbortError"));
    this.opening = null;
    const { session } = this;
    this.session = null;
    this.connectedAtMs = null;
    await session?.stop();
  }

  private async open(): Promise<void> {
    void this.leave();
    const opening = new AbortController();
    this.opening = opening;
    this.attempts += 1;
    this.change("connecting");
    const ours = (): boolean => this.opening === opening;
    try {
      const session = await this.options.open(opening.signal, {
        onConnected: () => ours() && this.connected(),
        onInterrupted: () => ours() && this.change("interrupted"),
        onLost: (reason) => ours() && void this.lost(reason),
      });
      if (!ours()) return void session.stop();
      this.session = session;
      this.options.onSession(session);
    } catch (thrown) {
      if (ours()) this.refused(asSignallingError(thrown));
    }
  }

  private connected(): void {
    if (this.connectedAtMs === null) {
      if (this.wasConnected) this.reconnects += 1;
      this.wasConnected = true;
      this.connectedAtMs = performance.now();
    }
    this.change("connected");
  }

  private async lost(reason: LossReason): Promise<void> {
    const asking = new AbortController();
    this.opening = asking;
    this.session = null;
    if (this.connectedAtMs !== null && performance.now() - this.connectedAtMs >= PROVEN_MS) this.proven();
    this.connectedAtMs = null;
    const asked = this.options.afterLoss(reason, asking.signal);
    if (asked !== null) {
      this.change("waiting", { lost: reason });
      const final = await asked;
      if (this.opening !== asking) return;
      if (final) return this.fail(final);
    }
    const error = new SignallingError("unreachable", LOSSES[reason]);
    this.retryIn((this.unhurriedBackoff ?? this.backoff).next(), "waiting", { lost: reason }, error);
  }

  private proven(): void {
    this.backoff.reset();
    this.failures = 0;
  }

  private refused(error: SignallingError): void {
    // Somebody who has been let in, and comes back before the server has missed it, meets its own session.
    const conflictWithOneself = error.kind === "conflict" && this.wasConnected;
    if (!error.isTransient && !conflictWithOneself) return this.fail(error);
    const wish = error.retryAfterMs === null ? null : Math.min(error.retryAfterMs, RETRY_AFTER_MOST_MS);
    if (error.kind === "not-live" || error.kind === "undecodable") {
      // Nothing is wrong: no growing waits, so that a stream is seen soon after it starts.
      this.proven();
      const [state, plain] =
        error.kind === "not-live"
          ? (["offline", OFFLINE_RETRY_MS] as const)
          : (["waiting", this.unhurriedBackoff?.next() ?? UNDECODABLE_RETRY_MS] as const);
      return this.retryIn(wish ?? plain, state, { error }, null);
    }
    this.retryIn((this.unhurriedBackoff ?? this.backoff).next(wish), "waiting", { error }, error);
  }

  /** `failure`: what it counts as; `null`: none. */
  private retryIn(
    ms: number,
    state: "offline" | "waiting",
    detail: Partial<StateChange>,
    failure: SignallingError | null,
  ): void {
    if (failure) {
      this.failures += 1;
      if (this.failures > (this.options.reconnect.attemptsMax ?? Infinity)) return this.fail(failure);
    }
    this.opening = null;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.open(), ms);
    this.change(state, { ...detail, retryInMs: ms });
  }

  private fail(error: SignallingError): void {
    this.opening = null;
    this.change("failed", { error });
  }
}

const LOSSES: Readonly<Record<LossReason, string>> = {
  "closed-by-server": "the server ended the session",
  network: "the connection was lost",
  unreachable: "the server answered, but its media port cannot be reached",
  "transport-failed": "the encrypted connection could not be made",
  "asked-to-reconnect": "the server asked for another session",
};
