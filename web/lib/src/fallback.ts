/**
 * HLS in place of WebRTC where WebRTC has no path for its media, until it has one. The states of the WHEP connection in, orders to one
 * HLS playback and to the video element out.
 *
 * The connection goes on trying by itself, in no hurry while HLS plays. What the server refuses to this viewer, it refuses by HLS too,
 * so a refusal ends both; a stream that is not live is not looked for by HLS.
 */

import { Backoff } from "./backoff.ts";
import { HlsPlayback, type HlsFallback } from "./hls.ts";
import type { Http } from "./http.ts";
import { firstPicture, holdPicture, show } from "./picture.ts";
import type { ErrorKind, SignallingError } from "./problem.ts";
import type { StateChange } from "./recovery.ts";

/** By which way pictures come. */
export type Transport = "webrtc" | "hls";

export interface FallbackOptions {
  readonly fallback: HlsFallback;
  readonly video: HTMLVideoElement;
  readonly http: Http;
  /** HLS plays: pictures are shown again. */
  onPlaying(): void;
  /** HLS was begun, or played, and does no more; WebRTC is to be asked what is the matter. */
  onLost(error: SignallingError, hasPlayed: boolean): void;
  /** WebRTC's pictures take over: they are there, and shown from now on. */
  onTakenOver(stream: MediaStream): void;
}

const AFTER_MS = 4_000;
/** What it would be no use to ask for in another way. */
const REFUSALS: readonly ErrorKind[] = ["unauthorised", "forbidden", "not-found", "refused"];

export class Fallback {
  private playback: HlsPlayback | null = null;
  /** How soon HLS is tried again after it was lost. */
  private readonly backoff = new Backoff({ firstMs: 2_000, mostMs: 30_000 });
  private timer: ReturnType<typeof setTimeout> | undefined;
  /** HLS was lost a moment ago; the timer says when to try it again. */
  private resting = false;
  /** WebRTC has no path at present, so that HLS is to play. */
  private wanted = false;
  /** WebRTC has a path, and its first picture is waited for. */
  private trial: { readonly stream: MediaStream; readonly over: AbortController } | null = null;
  private releasePicture: () => void = () => undefined;
  /** HLS shows pictures. */
  playing = false;

  constructor(private readonly options: FallbackOptions) {}

  /** Whether the video element is HLS's at present. */
  get hasVideo(): boolean {
    return this.playback !== null;
  }

  /** Looks at a change of the connection's state. `stream`: of its present session. */
  follow({ state, error, lost }: StateChange, stream: MediaStream | null): void {
    if (state !== "connected") this.endTrial();
    switch (state) {
      case "connected":
        this.rest();
        if (stream === null) return;
        if (this.playback) void this.takeOver(stream);
        else if (this.options.video.srcObject !== stream) void this.showAgain(stream);
        return;
      case "offline":
      case "closed":
        return this.stop();
      case "failed":
        return error && REFUSALS.includes(error.kind) ? this.stop() : this.begin();
      default: {
        const blocked = lost === "unreachable" || lost === "transport-failed" || error?.kind === "undecodable";
        if (blocked) return this.begin();
        this.beginIn(this.options.fallback.afterMs ?? AFTER_MS);
      }
    }
  }

  /** Ends HLS, without a word. */
  stop(): void {
    this.rest();
    this.endTrial();
    this.endPlayback();
    this.release();
  }

  /** Nothing is to be begun. */
  private rest(): void {
    this.wanted = false;
    this.resting = false;
    clearTimeout(this.timer);
    this.timer = undefined;
  }

  private beginIn(ms: number): void {
    this.wanted = true;
    if (this.playback !== null) return;
    this.timer ??= setTimeout(() => {
      this.resting = false;
      this.begin();
    }, ms);
  }

  private begin(): void {
    this.wanted = true;
    if (this.playback !== null || this.resting) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    const { fallback, video, http } = this.options;
    this.playback = new HlsPlayback({
      fallback,
      video,
      http,
      prepare: async () => this.keep(await holdPicture(video)),
      onPlaying: () => this.plays(),
      onLost: (error) => this.lost(error),
    });
  }

  private plays(): void {
    this.playing = true;
    this.backoff.reset();
    this.release();
    this.options.onPlaying();
  }

  private lost(error: SignallingError): void {
    const hasPlayed = this.playing;
    const stream = this.trial?.stream;
    this.playing = false;
    this.playback = null;
    this.endTrial();
    // WebRTC is about to take over: there is nothing left to wait with.
    if (stream) return void this.showAgain(stream);
    if (this.wanted) {
      this.beginIn(this.backoff.next(error.retryAfterMs));
      this.resting = true;
    }
    this.options.onLost(error, hasPlayed);
  }

  /** Goes over to WebRTC as soon as it has a picture, with the last one of HLS until that is shown. */
  private async takeOver(stream: MediaStream): Promise<void> {
    this.endTrial();
    const over = new AbortController();
    this.trial = { stream, over };
    try {
      await firstPicture(stream, over.signal);
    } catch {
      // Its session ended before it had a picture.
      return;
    }
    const release = await holdPicture(this.options.video);
    if (over.signal.aborted) return release();
    this.keep(release);
    this.trial = null;
    this.endPlayback();
    await this.showAgain(stream);
  }

  private async showAgain(stream: MediaStream): Promise<void> {
    const shown = show(this.options.video, stream);
    this.options.onTakenOver(stream);
    await shown;
    this.release();
  }

  private endPlayback(): void {
    this.playing = false;
    this.playback?.stop();
    this.playback = null;
  }

  private endTrial(): void {
    this.trial?.over.abort(new DOMException("WebRTC has no path any more", "AbortError"));
    this.trial = null;
  }

  private keep(release: () => void): void {
    this.release();
    this.releasePicture = release;
  }

  private release(): void {
    this.releasePicture();
    this.releasePicture = () => undefined;
  }
}
