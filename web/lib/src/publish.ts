/** Publishing by WHIP (RFC 9725): `publish()` gives a publisher that comes back by itself. */

import { Connection, type ConnectionEvents, type ConnectionOptions, type SessionInfo } from "./connection.ts";
import { Emitter } from "./emitter.ts";
import { encodingsFor, preferenceFor, type VideoCodec } from "./encodings.ts";
import type { Http } from "./http.ts";
import type { LossReason } from "./peer.ts";
import { SignallingError } from "./problem.ts";
import type { ConnectionState } from "./recovery.ts";
import { setFormatParameters } from "./sdp.ts";
import type { Session } from "./session.ts";
import { PublisherMeter, type PublisherStats } from "./stats.ts";
import { timeLimit } from "./time.ts";

export interface PublishOptions extends ConnectionOptions {
  /** The WHIP endpoint, `/whip/{stream}`: absolute, or relative to the page. */
  readonly url: string | URL;
  /** At most one video and one audio track are sent. The tracks stay the caller's. */
  readonly media: MediaStream;
  /** Nothing else is sent then. Default: what the server likes best of what the browser can. */
  readonly codec?: VideoCodec;
  /** What the encoder may use; the network may allow less. Unset: the browser's own limit (about 2.5 Mb/s at 720p). */
  readonly videoKbps?: number;
  /** Default: 128. */
  readonly audioKbps?: number;
  /** Pictures are scaled down to this height, if higher. */
  readonly maxHeight?: number;
  readonly maxFps?: number;
  /** What to give up when the network or the processor is short. */
  readonly degradation?: RTCDegradationPreference;
  /**
   * Sends the video in several sizes at once (RFC 8853), for viewers to choose among: whole, half and quarter, as far as half the
   * height is not tiny. Default: false. It costs the encoder and the upload about a third more. A server that forwards a single size gives all
   * viewers that one, which may be the smallest: ask for it where the server keeps several.
   */
  readonly simulcast?: boolean;
}

export interface PublisherEvents extends ConnectionEvents {
  /** A session was answered. */
  session: SessionInfo;
  stats: PublisherStats;
}

/** Failures in a row, with waits of up to 8 s, after which a publisher gives up: who went home wants no surprise. */
const ATTEMPTS_MAX = 30;
/** The most that is sent before the network was measured: a good picture at once, and no flood where there is less. */
const START_KBPS_MAX = 1_500;
/** An endpoint answers HEAD from memory; later than this it is gone. */
const READY_PATIENCE_MS = 3_000;

/** Begins to publish. Nothing is thrown: listen to `state`, `reconnecting` and `error`. */
export function publish(options: PublishOptions): Publisher {
  return new Publisher(options);
}

export class Publisher extends Emitter<PublisherEvents> {
  private readonly connection: Connection;
  private meter = new PublisherMeter();
  private videoKbps: number | null;
  private readonly tracks = new Map<string, MediaStreamTrack>();

  constructor(private readonly options: PublishOptions) {
    super();
    this.videoKbps = options.videoKbps ?? null;
    for (const track of [options.media.getVideoTracks()[0], options.media.getAudioTracks()[0]]) {
      if (track) this.tracks.set(track.kind, track);
    }
    this.connection = new Connection(options, {
      protocol: "whip",
      reconnect: { attemptsMax: ATTEMPTS_MAX },
      endpoint: () => options.url,
      media: () => ({
        listen: () => undefined,
        offer: (pc) => this.addTracks(pc),
        tuneLocal: (sdp) => setFormatParameters(sdp, "opus", { stereo: 1, "sprop-stereo": 1 }),
        tuneRemote: (sdp) => this.tuneAnswer(sdp),
      }),
      emit: (type, event) => this.emit(type, event as PublisherEvents[typeof type]),
      onSession: (session) => this.opened(session),
      onSessionOver: () => undefined,
      afterLoss: (reason, http, signal) => this.afterLoss(reason, http, signal),
      // Nobody is put back on air by going back in a browser's history.
      onPageHide: () => void this.close(),
      onPageShow: () => undefined,
      onVisibility: () => undefined,
    });
  }

  get state(): ConnectionState {
    return this.connection.recovery.state;
  }

  /** `null` while there is none. */
  get session(): SessionInfo | null {
    return this.connection.info();
  }

  /** Sessions that were asked for, in all. */
  get attempts(): number {
    return this.connection.recovery.attempts;
  }

  /** Sessions that took the place of one that had been connected. */
  get reconnects(): number {
    return this.connection.recovery.reconnects;
  }

  /** Changes the video's limit while live, and for later sessions; `null`: the browser's own. */
  async setVideoKbps(kbps: number | null): Promise<void> {
    this.videoKbps = kbps;
    const sender = this.senderOf("video");
    if (!sender) return;
    const parameters = sender.getParameters();
    const wanted = this.encodings(parameters.encodings.length);
    parameters.encodings.forEach((encoding, index) => {
      const maxBitrate = wanted[index]?.maxBitrate;
      if (maxBitrate === undefined) delete encoding.maxBitrate;
      else encoding.maxBitrate = maxBitrate;
    });
    await sender.setParameters(parameters);
  }

  /** Swaps a track of the same kind without a new session. Throws a `SignallingError` when none of its kind is sent. */
  async replaceTrack(track: MediaStreamTrack): Promise<void> {
    if (!this.tracks.has(track.kind)) throw new SignallingError("refused", `no ${track.kind} is being published`);
    this.tracks.set(track.kind, track);
    await this.senderOf(track.kind)?.replaceTrack(track);
  }

  /** Tries now instead of waiting further; also again after it was given up. */
  retryNow(): void {
    this.connection.recovery.retryNow();
  }

  /** Looks for another path for the media, which goes on meanwhile. Done by itself when the network changes or falls silent. */
  restartIce(): void {
    this.connection.recovery.session?.restartIce();
  }

  /** Ends it on both sides, for good. Safe to call twice, and while the page goes away. */
  close(): Promise<void> {
    return this.connection.close();
  }

  protected override listenersChanged(): void {
    this.connection.measure(this.listens("stats"), (report) => this.emit("stats", this.meter.read(report)));
  }

  private opened(_session: Session): void {
    this.meter = new PublisherMeter();
    const info = this.session;
    if (info) this.emit("session", info);
  }

  /**
   * A server that stops may be back soon, and is come back to. One that stays has meant this publisher: to come back would take the
   * stream from whoever has it now.
   */
  private afterLoss(reason: LossReason, http: Http, signal: AbortSignal): null | Promise<SignallingError | null> {
    return reason === "closed-by-server" ? this.whyEnded(http, signal) : null;
  }

  private async whyEnded(http: Http, signal: AbortSignal): Promise<SignallingError | null> {
    const status = await http.statusOf(this.options.url, timeLimit(signal, READY_PATIENCE_MS));
    if (status === null || status >= 500) return null;
    return new SignallingError(
      "ended",
      "the server ended this session: another publisher took the stream over, an operator ended it, or the token expired",
    );
  }

  private senderOf(kind: string): RTCRtpSender | undefined {
    return this.session?.pc.getSenders().find(({ track }) => track?.kind === kind);
  }

  private encodings(count: number): RTCRtpEncodingParameters[] {
    const height = this.tracks.get("video")?.getSettings().height;
    const { maxHeight, maxFps } = this.options;
    return encodingsFor({ height, maxHeight, maxFps, kbps: this.videoKbps }, count);
  }

  private addTracks(pc: RTCPeerConnection): void {
    const { codec, degradation, audioKbps = 128, simulcast = false } = this.options;
    const video = this.tracks.get("video");
    const audio = this.tracks.get("audio");
    if (!video && !audio) throw new SignallingError("refused", "there is neither picture nor sound to publish");
    const streams = [this.options.media];
    if (video) {
      const sendEncodings = this.encodings(simulcast ? 3 : 1);
      const transceiver = pc.addTransceiver(video, { direction: "sendonly", streams, sendEncodings });
      // Where a browser cannot say what it sends, or take a preference, the server's answer decides.
      const codecs = globalThis.RTCRtpSender?.getCapabilities?.("video")?.codecs;
      if (codec && codecs) transceiver.setCodecPreferences?.(preferenceFor(codecs, codec));
      if (degradation) {
        const parameters = transceiver.sender.getParameters() as RTCRtpSendParameters & { degradationPreference?: string };
        parameters.degradationPreference = degradation;
        // Only a preference: a browser that does not know it sends all the same.
        void transceiver.sender.setParameters(parameters).catch(() => undefined);
      }
    }
    if (audio) {
      pc.addTransceiver(audio, { direction: "sendonly", streams, sendEncodings: [{ maxBitrate: audioKbps * 1000 }] });
    }
  }

  /**
   * What this side may do, which browsers read from the other side's answer.
   *
   * Stereo: the server takes it whether or not its answer says so; Chromium sends it only when the answer does. Start
   * bitrate: Chromium begins at 300 kb/s, shrinks the picture to that, and takes ten seconds and more to let it grow again;
   * `x-google-start-bitrate` is its own parameter, and other browsers ignore it.
   */
  private tuneAnswer(sdp: string): string {
    const { codec } = this.options;
    const stereo = setFormatParameters(sdp, "opus", { stereo: 1 });
    if (!codec || !this.videoKbps) return stereo;
    return setFormatParameters(stereo, codec, { "x-google-start-bitrate": Math.min(this.videoKbps, START_KBPS_MAX) });
  }
}
