/** What a viewer and a publisher have in common: options, events, tokens, the network, figures at intervals. */

import { Http } from "./http.ts";
import { observeNetwork } from "./network.ts";
import type { LossReason } from "./peer.ts";
import { SignallingError } from "./problem.ts";
import { Recovery, type ReconnectOptions, type SessionCallbacks, type StateChange } from "./recovery.ts";
import { Session, type SessionOptions } from "./session.ts";
import type { StatsReport } from "./stats.ts";
import { Tokens, type TokenSource } from "./token.ts";

export interface ConnectionOptions {
  /** Sent as `Authorization: Bearer`, never in a URL. Default: none. */
  readonly token?: TokenSource;
  /** Added to what the library sets. `iceServers` given here, an empty list too, count instead of those that the server names. */
  readonly configuration?: RTCConfiguration;
  /**
   * Whether candidates are sent as they are found (RFC 9725, section 4.3.2). Default: true. A server that is an ICE-lite agent with
   * an address of its own, as Sluice is, does without them: `false` then spares a request per session.
   */
  readonly trickle?: boolean;
  /** How losses and failures are followed by another attempt. */
  readonly reconnect?: ReconnectOptions;
  /** How often `stats` comes, in ms. Default: 1000. Nothing is measured while nobody listens. */
  readonly statsIntervalMs?: number;
  /** Instead of the browser's own, for tests and for programs that are no browsers. */
  readonly fetch?: typeof fetch;
  readonly createPeer?: (configuration: RTCConfiguration) => RTCPeerConnection;
}

/** Why there is no media at present, and what is done about it. */
export interface Reconnecting {
  /** `ice-restart`: the same session looks for another path; `new-session`: it is over, and another one follows. */
  readonly by: "ice-restart" | "new-session";
  /** Why, after a loss. */
  readonly lost: LossReason | null;
  /** Why, after a refusal. */
  readonly error: SignallingError | null;
  /** How long until the next attempt, in ms. */
  readonly inMs: number;
  /** Sessions that were asked for so far. */
  readonly attempts: number;
}

/** The events that viewers and publishers share. */
export interface ConnectionEvents {
  state: StateChange;
  /** Media does not flow, and is hoped to again. Not for a stream that is not live: that is the state `offline`. */
  reconnecting: Reconnecting;
  /** Every refusal and failure, with the server's own words; the one that comes with the state `failed` is the last. */
  error: SignallingError;
}

/** What of a session may be looked at. */
export interface SessionInfo {
  readonly pc: RTCPeerConnection;
  /** The session's URL. Who knows it can end the session: not for logs. */
  readonly resource: string;
  /** `performance.now()` when the offer was posted and when the answer was there. */
  readonly postedAtMs: number;
  readonly answeredAtMs: number;
}

/** The media part of opening a session. */
export type Media = Pick<SessionOptions, "listen" | "offer" | "tuneLocal" | "tuneRemote">;

/** How a kind of connection differs from the other. */
export interface ConnectionKind {
  readonly protocol: "whip" | "whep";
  readonly reconnect: ReconnectOptions;
  /** Where the next session is asked for. */
  endpoint(): string | URL;
  media(): Media;
  emit<T extends keyof ConnectionEvents>(type: T, event: ConnectionEvents[T]): void;
  onSession(session: Session): void;
  /** The session is over, or about to be. */
  onSessionOver(): void;
  afterLoss(reason: LossReason, http: Http, signal: AbortSignal): null | Promise<SignallingError | null>;
  /** The page goes away, and comes back from the browser's page cache. */
  onPageHide(): void;
  onPageShow(): void;
  onVisibility(visible: boolean): void;
}

const STATS_INTERVAL_MS = 1_000;

/** Drives the sessions of one viewer or publisher. */
export class Connection {
  readonly http: Http;
  readonly recovery: Recovery;
  private readonly stopNetwork: () => void;
  private statsTimer: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly options: ConnectionOptions,
    private readonly kind: ConnectionKind,
  ) {
    this.http = new Http(kind.protocol, new Tokens(options.token ?? null), options.fetch);
    this.recovery = new Recovery({
      reconnect: { ...kind.reconnect, ...options.reconnect },
      open: (signal, callbacks) => this.open(signal, callbacks),
      onChange: (change) => this.changed(change),
      onSession: (session) => kind.onSession(session),
      afterLoss: (reason, signal) => kind.afterLoss(reason, this.http, signal),
    });
    this.stopNetwork = observeNetwork({
      onChanged: () => this.recovery.session?.restartIce(),
      onAwake: () => this.recovery.state !== "failed" && this.recovery.retryNow(),
      onVisibility: (visible) => kind.onVisibility(visible),
      onPageHide: () => kind.onPageHide(),
      onPageShow: () => kind.onPageShow(),
    });
    // Whoever called has listeners to add first.
    queueMicrotask(() => this.recovery.openNow());
  }

  info(): SessionInfo | null {
    const { session } = this.recovery;
    if (session === null) return null;
    const { pc, resource, postedAtMs, answeredAtMs } = session;
    return { pc, resource, postedAtMs, answeredAtMs };
  }

  /** Measures at intervals from now on, or no more. `read` gets the present session's report. */
  measure(wanted: boolean, read: (report: StatsReport) => void): void {
    if (!wanted || this.recovery.state === "closed") {
      clearInterval(this.statsTimer);
      this.statsTimer = undefined;
      return;
    }
    this.statsTimer ??= setInterval(() => {
      const { session } = this.recovery;
      if (session === null || session.pc.connectionState === "closed") return;
      void session.pc.getStats().then(
        (report) => {
          if (this.recovery.session === session) read(report);
        },
        () => undefined,
      );
    }, this.options.statsIntervalMs ?? STATS_INTERVAL_MS);
  }

  /** Resolves when the server has been told, or could not be. */
  async close(): Promise<void> {
    this.stopNetwork();
    clearInterval(this.statsTimer);
    this.kind.onSessionOver();
    await this.recovery.close();
  }

  private open(signal: AbortSignal, callbacks: SessionCallbacks): Promise<Session> {
    const { kind, options } = this;
    return Session.open({
      ...kind.media(),
      ...callbacks,
      http: this.http,
      url: kind.endpoint(),
      configuration: options.configuration ?? {},
      createPeer: options.createPeer ?? createPeer,
      trickle: options.trickle ?? true,
      signal,
      onRenewalFailed: (error) => kind.emit("error", error),
    });
  }

  private changed(change: StateChange): void {
    const { kind, recovery } = this;
    const { state, error, lost, retryInMs } = change;
    // A server that stops says goodbye by DTLS, and where to go by an event: whichever comes first, both are heard.
    const mayBeTold = state === "waiting" && lost === "closed-by-server";
    if (!mayBeTold && ["connecting", "offline", "waiting", "failed"].includes(state)) kind.onSessionOver();
    kind.emit("state", change);
    if (error && recovery.state === state) kind.emit("error", error);
    // A listener may have closed it.
    if (recovery.state !== state) return;
    const { attempts } = recovery;
    if (state === "interrupted") {
      kind.emit("reconnecting", { by: "ice-restart", lost: "network", error: null, inMs: 0, attempts });
    } else if (state === "waiting" && retryInMs !== null) {
      kind.emit("reconnecting", { by: "new-session", lost, error, inMs: retryInMs, attempts });
    }
  }
}

/** Throws a `SignallingError` where WebRTC is missing, or was switched off. */
function createPeer(configuration: RTCConfiguration): RTCPeerConnection {
  if (typeof globalThis.RTCPeerConnection !== "function") {
    throw new SignallingError("unsupported", "this browser has no WebRTC");
  }
  return new RTCPeerConnection(configuration);
}

/** A failure of a call on a connection without a session. */
export function noSession(): SignallingError {
  return new SignallingError("refused", "there is no session at present");
}
