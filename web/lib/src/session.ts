/**
 * One WHIP or WHEP session from its offer to its end: opened by POST, kept on a path by ICE restarts, renewed with new tokens,
 * ended by DELETE. It does not come back by itself: see `recovery.ts`.
 */

import { CandidateQueue } from "./candidates.ts";
import { fragmentOf, ufragOf } from "./fragment.ts";
import type { Answer, Http } from "./http.ts";
import { IceRestarts } from "./ice-restarts.ts";
import { iceServersOf } from "./link.ts";
import { observePeer, type LossReason, type PeerWatch } from "./peer.ts";
import { asSignallingError, SignallingError } from "./problem.ts";
import { LOOK_MS, Silence } from "./silence.ts";
import { timeLimit } from "./time.ts";

/** How long the server gets to take a DELETE before the connection is closed all the same. */
const DELETE_PATIENCE_MS = 1_000;
/** A PATCH of candidates that takes longer has met a network that is gone. */
const TRICKLE_PATIENCE_MS = 5_000;
/** A direct path is found within a few round trips; after this long the STUN and TURN servers that the answer named are tried. */
const DIRECT_PATIENCE_MS = 1_000;

export interface SessionOptions {
  readonly http: Http;
  readonly url: string | URL;
  /** Added to what the library sets; its `iceServers`, an empty list too, count instead of the server's own. */
  readonly configuration: RTCConfiguration;
  readonly createPeer: (configuration: RTCConfiguration) => RTCPeerConnection;
  /** Whether candidates are sent as they are found. */
  readonly trickle: boolean;
  /** Aborts the opening; a session that is open is ended by `stop()`. */
  readonly signal: AbortSignal;
  /** Listens for tracks; called for each peer connection that is made. */
  listen(pc: RTCPeerConnection): void;
  /** Adds what is to be offered. */
  offer(pc: RTCPeerConnection): void;
  /** Changes one's own description before it is set and sent, and the server's before it is set. */
  tuneLocal(sdp: string): string;
  tuneRemote(sdp: string): string;
  onConnected(): void;
  onInterrupted(): void;
  /** Once, when the session ends in any way but `stop()`. */
  onLost(reason: LossReason): void;
  /** A token could not be renewed; the session goes on until its `exp`. */
  onRenewalFailed(error: SignallingError): void;
}

/** What is known of a session once it is answered. */
interface Opened {
  readonly pc: RTCPeerConnection;
  readonly answer: Answer;
  /** The server's description as it was set. */
  readonly remoteSdp: string;
  readonly postedAtMs: number;
  readonly answeredAtMs: number;
  readonly candidates: CandidateQueue;
}

export class Session {
  readonly pc: RTCPeerConnection;
  /** The session's URL. Who knows it can end the session: not for logs. */
  readonly resource: string;
  readonly answer: Answer;
  /** `performance.now()` when the offer was posted and when the answer was there. */
  readonly postedAtMs: number;
  readonly answeredAtMs: number;
  private readonly candidates: CandidateQueue;
  private readonly restarts: IceRestarts;
  private readonly peerWatch: PeerWatch | null;
  private interrupted = false;
  private readonly over = new AbortController();
  private directTimer: ReturnType<typeof setTimeout> | undefined;
  private renewalTimer: ReturnType<typeof setTimeout> | undefined;
  private silenceTimer: ReturnType<typeof setInterval> | undefined;
  /** PATCHes one after the other: what was found later is not to arrive earlier. */
  private trickled: Promise<void> = Promise.resolve();

  /** Opens a session. Throws a `SignallingError` when refused; nothing is left open then. */
  static async open(options: SessionOptions): Promise<Session> {
    let session: Session | undefined;
    const candidates = new CandidateQueue((found, complete) => session?.trickle(found, complete));
    const opened = await openPeer(options, candidates);
    try {
      options.signal.throwIfAborted();
      session = new Session(options, opened);
      candidates.release();
      return session;
    } catch (thrown) {
      opened.pc.close();
      void options.http.delete(opened.answer.resource);
      throw thrown;
    }
  }

  private constructor(
    private readonly options: SessionOptions,
    { pc, answer, remoteSdp, postedAtMs, answeredAtMs, candidates }: Opened,
  ) {
    this.pc = pc;
    this.answer = answer;
    this.resource = answer.resource;
    this.postedAtMs = postedAtMs;
    this.answeredAtMs = answeredAtMs;
    this.candidates = candidates;
    this.restarts = new IceRestarts({
      pc,
      http: options.http,
      resource: answer.resource,
      etag: answer.etag,
      remoteSdp,
      candidates,
      tuneLocal: options.tuneLocal,
      signal: this.over.signal,
      // It missed too many of our packets: the path was away for longer than it waits.
      onGone: () => this.lose("network"),
      onRefused: () => this.interrupted && this.lose("network"),
      onBroken: () => this.lose("transport-failed"),
    });
    this.peerWatch = null;
    this.peerWatch = observePeer(pc, {
      onConnected: () => {
        this.interrupted = false;
        clearTimeout(this.directTimer);
        options.onConnected();
      },
      onInterrupted: () => {
        this.interrupted = true;
        options.onInterrupted();
        this.restartIce();
      },
      onLost: (reason) => this.lose(reason),
    });
    if (this.over.signal.aborted) this.peerWatch.stop();
    else this.scheduleTimers();
  }

  /** Looks for another path without a break in media, where the server can; nothing happens where it cannot. */
  restartIce(): void {
    this.restarts.restart();
  }

  /** Ends it on both sides. Safe to call twice, and while the page goes away. Resolves when the server has been told. */
  async stop(): Promise<void> {
    if (!this.end()) return;
    // In this order: closing the connection tells the server by DTLS, and it would not know the session of the DELETE.
    const timer = setTimeout(() => this.pc.close(), DELETE_PATIENCE_MS);
    await this.options.http.delete(this.resource);
    clearTimeout(timer);
    this.pc.close();
  }

  /** Gives it up for a reason of one's own. */
  lose(reason: LossReason): void {
    if (!this.end()) return;
    this.pc.close();
    if (reason !== "closed-by-server") void this.options.http.delete(this.resource);
    this.options.onLost(reason);
  }

  private scheduleTimers(): void {
    this.useServersOfAnswer();
    this.scheduleRenewal();
    if (this.options.http.protocol === "whip") this.listenForSilence();
  }

  /** A publisher hears from its server all the time. A viewer does not: nobody may be publishing. */
  private listenForSilence(): void {
    const silence = new Silence();
    this.silenceTimer = setInterval(() => {
      this.pc.getStats().then(
        (report) => {
          if (!this.over.signal.aborted && silence.begins(report)) this.restartIce();
        },
        () => undefined,
      );
    }, LOOK_MS);
  }

  private end(): boolean {
    if (this.over.signal.aborted) return false;
    this.over.abort(new DOMException("the session is over", "AbortError"));
    this.peerWatch?.stop();
    this.candidates.stop();
    clearTimeout(this.directTimer);
    clearTimeout(this.renewalTimer);
    clearInterval(this.silenceTimer);
    return true;
  }

  /**
   * The answer's STUN and TURN servers (RFC 9725, section 4.6). They come after gathering began, so that they count from the next
   * ICE restart on: it is made when no direct path comes up soon, which is seldom, and costs nobody else the wait.
   */
  private useServersOfAnswer(): void {
    const iceServers = iceServersOf(this.answer.links);
    if (iceServers.length === 0 || this.options.configuration.iceServers !== undefined) return;
    if (typeof this.pc.setConfiguration !== "function") return;
    try {
      this.pc.setConfiguration({ ...this.pc.getConfiguration(), iceServers });
    } catch {
      // A browser that does not take them goes on without.
      return;
    }
    const { iceTransportPolicy } = this.options.configuration;
    const restart = (): void => {
      this.peerWatch?.startOver();
      this.restartIce();
    };
    this.directTimer = setTimeout(restart, iceTransportPolicy === "relay" ? 0 : DIRECT_PATIENCE_MS);
  }

  private trickle(candidates: readonly string[], complete: boolean): void {
    if (!this.options.trickle) return;
    const fragment = fragmentOf(this.pc.localDescription?.sdp ?? "", candidates, complete);
    const { etag } = this.restarts;
    const { signal } = this.over;
    this.trickled = this.trickled
      .then(() => this.options.http.patchFragment(this.resource, fragment, etag, timeLimit(signal, TRICKLE_PATIENCE_MS)))
      // Without them the path may still be found, as checks tell the server the same; nothing else is to be done about it.
      .then(undefined, () => undefined);
  }

  private scheduleRenewal(): void {
    const waitMs = this.options.http.tokens.renewalInMs();
    if (waitMs === null) return;
    this.renewalTimer = setTimeout(() => {
      this.options.http
        .renew(this.resource)
        .catch((thrown: unknown) => {
          if (!this.over.signal.aborted) this.options.onRenewalFailed(asSignallingError(thrown));
        })
        .finally(() => {
          if (!this.over.signal.aborted) this.scheduleRenewal();
        });
    }, waitMs);
  }
}

function createPeer(options: SessionOptions, candidates: CandidateQueue): RTCPeerConnection {
  const pc = options.createPeer({ bundlePolicy: "max-bundle", ...options.configuration });
  pc.addEventListener("icecandidate", ({ candidate }) => candidates.add(candidate));
  options.listen(pc);
  return pc;
}

async function openPeer(options: SessionOptions, candidates: CandidateQueue): Promise<Opened> {
  const { http, signal } = options;
  const pc = createPeer(options, candidates);
  let resource: string | null = null;
  try {
    options.offer(pc);
    const offer = await pc.createOffer();
    const sdp = options.tuneLocal(offer.sdp ?? "");
    candidates.begin(ufragOf(sdp));
    // Set and posted at once: the answer's round trip runs while the browser prepares itself.
    const postedAtMs = performance.now();
    const set = pc.setLocalDescription({ type: "offer", sdp });
    set.catch(() => undefined);
    const answer = await http.postOffer(options.url, sdp, signal);
    const answeredAtMs = performance.now();
    resource = answer.resource;
    if (answer.isCounterOffer) {
      pc.close();
      return { ...(await takeCounterOffer(options, candidates, answer)), postedAtMs, answeredAtMs };
    }
    await set;
    const remoteSdp = options.tuneRemote(answer.sdp);
    await pc.setRemoteDescription({ type: "answer", sdp: remoteSdp });
    return { pc, answer, remoteSdp, postedAtMs, answeredAtMs, candidates };
  } catch (thrown) {
    pc.close();
    if (resource !== null) void http.delete(resource);
    throw thrown;
  }
}

/** Answers the server's own offer (draft-ietf-wish-whep, "Server Sends Counter-Offer"), on a peer connection that has offered nothing. */
async function takeCounterOffer(
  options: SessionOptions,
  candidates: CandidateQueue,
  answer: Answer,
): Promise<Omit<Opened, "postedAtMs" | "answeredAtMs">> {
  const pc = createPeer(options, candidates);
  try {
    await pc.setRemoteDescription({ type: "offer", sdp: answer.sdp });
    const own = await pc.createAnswer();
    const sdp = options.tuneLocal(own.sdp ?? "");
    if (refusesPictures(sdp)) throw new SignallingError("undecodable", undecodable(answer.sdp), null, null, 406);
    candidates.begin(ufragOf(sdp));
    await pc.setLocalDescription({ type: "answer", sdp });
    await options.http.patchAnswer(answer.resource, sdp, options.signal);
    return { pc, answer, remoteSdp: answer.sdp, candidates };
  } catch (thrown) {
    pc.close();
    throw thrown;
  }
}

/** A rejected section has port 0 (RFC 3264, section 6). */
function refusesPictures(sdp: string): boolean {
  return /^m=video 0 /m.test(sdp);
}

function undecodable(offer: string): string {
  const names = [...offer.matchAll(/^a=rtpmap:\d+ ([\w.-]+)\/90000/gm)]
    .map(([, name]) => name ?? "")
    .filter((name) => !/^(rtx|red|ulpfec|flexfec-03)$/i.test(name));
  return `this browser cannot decode the stream's video (${[...new Set(names)].join(", ") || "unknown"})`;
}
