/**
 * ICE restarts of one session (RFC 9725, section 4.3.3): an offer of which only the ICE part is sent, by PATCH with `If-Match: *`;
 * the server's earlier answer with its new ICE part is what comes back. Media goes on over the old path meanwhile.
 *
 * One at a time; what is asked for during one is made after it. A server that cannot restart is asked once.
 */

import type { CandidateQueue } from "./candidates.ts";
import { fragmentOf, parseFragment, restartedAnswer, ufragOf } from "./fragment.ts";
import type { Http } from "./http.ts";
import { asSignallingError, SignallingError } from "./problem.ts";
import { isTimeOut, pause, timeLimit } from "./time.ts";

/** A network that has just changed answers again soon, or later: asked about this often until the session is given up. */
const RETRY_MS = 400;
/** A server's longest wish that is obeyed: a session without a path is lost sooner anyway. */
const RETRY_MOST_MS = 5_000;
/** A PATCH sent into a network that has gone would never end. */
const ANSWER_PATIENCE_MS = 3_000;

export interface RestartOptions {
  readonly pc: RTCPeerConnection;
  readonly http: Http;
  readonly resource: string;
  readonly etag: string | null;
  /** The server's description as it was set. */
  readonly remoteSdp: string;
  readonly candidates: CandidateQueue;
  tuneLocal(sdp: string): string;
  /** Ends everything. */
  readonly signal: AbortSignal;
  /** The server knows the session no more. */
  onGone(): void;
  /** The server cannot restart; the session is as it was. */
  onRefused(): void;
  /** The two sides do not agree any more. */
  onBroken(): void;
}

export class IceRestarts {
  /** Names the present ICE session; `null` where the server has none. */
  etag: string | null;
  private remoteSdp: string;
  private possible = true;
  private running = false;
  private again = false;

  constructor(private readonly options: RestartOptions) {
    this.etag = options.etag;
    this.remoteSdp = options.remoteSdp;
  }

  restart(): void {
    if (!this.possible) return this.options.onRefused();
    this.again = true;
    if (!this.running) void this.run();
  }

  private async run(): Promise<void> {
    this.running = true;
    try {
      while (this.again && this.possible && !this.options.signal.aborted) {
        this.again = false;
        await this.restartOnce();
      }
    } catch {
      if (!this.options.signal.aborted) this.options.onBroken();
    } finally {
      this.running = false;
    }
  }

  private async restartOnce(): Promise<void> {
    const { pc, candidates } = this.options;
    const offer = await pc.createOffer({ iceRestart: true });
    const sdp = this.options.tuneLocal(offer.sdp ?? "");
    candidates.begin(ufragOf(sdp));
    await pc.setLocalDescription({ type: "offer", sdp });
    const taken = candidates.take();
    const fragment = fragmentOf(pc.localDescription?.sdp ?? sdp, taken.candidates, taken.complete);
    const patched = await this.patch(fragment);
    if (patched === null) {
      await pc.setLocalDescription({ type: "rollback" });
      this.options.onRefused();
      return;
    }
    this.etag = patched.etag ?? this.etag;
    const ice = parseFragment(patched.fragment ?? "");
    if (ice === null) throw new SignallingError("protocol", "the server's restart has no ICE credentials");
    this.remoteSdp = restartedAnswer(this.remoteSdp, ice);
    await pc.setRemoteDescription({ type: "answer", sdp: this.remoteSdp });
    candidates.release();
  }

  /** Asks until there is an answer; `null`: the server does not restart. */
  private async patch(fragment: string): Promise<{ etag: string | null; fragment: string | null } | null> {
    const { http, resource, signal, onGone } = this.options;
    for (;;) {
      try {
        return await http.patchFragment(resource, fragment, "*", timeLimit(signal, ANSWER_PATIENCE_MS));
      } catch (thrown) {
        signal.throwIfAborted();
        const error = asSignallingError(isTimeOut(thrown) ? new TypeError("no answer") : thrown);
        if (error.kind === "not-found") {
          onGone();
          signal.throwIfAborted();
        }
        if (!error.isTransient) {
          this.possible = false;
          return null;
        }
        await pause(Math.min(RETRY_MOST_MS, Math.max(RETRY_MS, error.retryAfterMs ?? 0)), signal);
      }
    }
  }
}
