/** Watching by WHEP (draft-ietf-wish-whep), with its events and layers: `watch()` gives a viewer that comes back by itself. */

import {
  Connection,
  noSession,
  type ConnectionEvents,
  type ConnectionOptions,
  type Media,
  type SessionInfo,
} from "./connection.ts";
import { Emitter } from "./emitter.ts";
import { readEvents } from "./event-channel.ts";
import { Fallback, type Transport } from "./fallback.ts";
import type { HlsFallback } from "./hls.ts";
import { EVENTS_RELATION, LAYER_RELATION, linkOf } from "./link.ts";
import { show } from "./picture.ts";
import { asSignallingError, SignallingError } from "./problem.ts";
import type { ConnectionState, StateChange } from "./recovery.ts";
import { setFormatParameters } from "./sdp.ts";
import type { Session } from "./session.ts";
import { ViewerMeter, type ViewerStats } from "./stats.ts";
import { EVENT_TYPES, type Layer, type WhepEvent } from "./whep-events.ts";

export interface WatchOptions extends ConnectionOptions {
  /** The WHEP endpoint, `/whep/{stream}`: absolute, or relative to the page. */
  readonly url: string | URL;
  /** Shows each session's stream, and plays it: muted where the browser allows no other. */
  readonly video?: HTMLVideoElement | null;
  /** How long pictures may wait to be smooth, in ms; 0, the default, shows them as soon as they are complete. */
  readonly bufferMs?: number;
  /**
   * HLS, where WebRTC has no path for its media or the browser none of its codecs, until WebRTC has: seconds later, and through every
   * firewall that lets web pages through. It needs `video`.
   */
  readonly fallback?: HlsFallback | null;
}

/** What of the stream's encodings to be sent (WHEP extensions draft, video layer selection). Bounds are in pixels. */
export interface LayerChoice {
  /** Which video, where there are several. Default: the first. */
  readonly mediaId?: string;
  readonly rid?: string;
  readonly spatialLayerId?: number;
  readonly temporalLayerId?: number;
  readonly maxSpatialLayerId?: number;
  readonly maxTemporalLayerId?: number;
  readonly maxWidth?: number;
  readonly maxHeight?: number;
}

export interface ViewerEvents extends ConnectionEvents {
  /** A session was answered: its stream gets its tracks as they come. While HLS plays: once its pictures take over. */
  stream: MediaStream;
  /** By which way pictures come, at first and whenever it changes. */
  transport: Transport;
  /** Somebody publishes; nobody does any more. Where the server sends events. */
  active: void;
  inactive: void;
  /** The encodings that `setLayer()` chooses among, best first as the server sends them; empty when there is no choice. */
  layers: readonly Layer[];
  /** How many watch. */
  viewercount: number;
  stats: ViewerStats;
}

/** Begins to watch. Nothing is thrown: listen to `state`, `reconnecting` and `error`. */
export function watch(options: WatchOptions): Viewer {
  return new Viewer(options);
}

export class Viewer extends Emitter<ViewerEvents> {
  private readonly connection: Connection;
  /** Where a `reconnect` event sent this viewer; a failure there leads back to `options.url`. */
  private elsewhere: string | null = null;
  private channel: AbortController | null = null;
  private channelTypes = "";
  /** What a URL in an event is relative to. */
  private channelBase = "";
  private choice: LayerChoice | null = null;
  private visible = true;
  private meter = new ViewerMeter();
  private readonly fallback: Fallback | null;
  /** The connection's, which is not told while HLS plays. */
  private change: StateChange = { state: "connecting", previous: "connecting", error: null, lost: null, retryInMs: null };
  private hlsFault = "";
  /** Of the session that has no picture yet while HLS plays. */
  private pending: MediaStream | null = null;
  /** `connected`: pictures may come, by WebRTC or by HLS. */
  state: ConnectionState = "connecting";
  /** By which way pictures come; `null` before there was one. */
  transport: Transport | null = null;
  /** The present session's, and while there is none the last one's. */
  stream: MediaStream | null = null;
  /** Whether somebody publishes; `null` while the server has not said. */
  active: boolean | null = null;
  layers: readonly Layer[] = [];
  /** `null` while the server has not said. */
  viewerCount: number | null = null;

  constructor(private readonly options: WatchOptions) {
    super();
    this.connection = new Connection(options, {
      protocol: "whep",
      reconnect: {},
      endpoint: () => this.elsewhere ?? options.url,
      media: () => {
        this.pending = new MediaStream();
        return viewing(this.pending, options.bufferMs ?? 0);
      },
      emit: (type, event) => {
        if (type === "state") this.changed(event as StateChange);
        // What is tried while HLS plays may fail: nobody misses anything.
        else if (!this.fallback?.playing) this.emit(type, event as ViewerEvents[typeof type]);
      },
      onSession: (session) => this.opened(session),
      onSessionOver: () => this.closeChannel(),
      afterLoss: () => null,
      onPageHide: () => {
        this.closeChannel();
        this.fallback?.stop();
        void this.connection.recovery.suspend();
      },
      onPageShow: () => this.connection.recovery.openNow(),
      onVisibility: (visible) => {
        this.visible = visible;
        this.listenersChanged();
      },
    });
    const { fallback, video } = options;
    this.fallback = fallback && video ? this.fallbackTo(fallback, video) : null;
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

  /** Whether the server lets its viewers choose among layers. */
  get canSetLayer(): boolean {
    return this.extension(LAYER_RELATION) !== null;
  }

  /**
   * Chooses what is sent; `null`: as the server sees fit. It holds for later sessions too. The picture changes at that layer's next
   * keyframe. Throws a `SignallingError`: the server's refusal, or `refused` while there is no session or no choice.
   */
  async setLayer(choice: LayerChoice | null): Promise<void> {
    const url = this.extension(LAYER_RELATION);
    if (url === null) throw this.session ? new SignallingError("refused", "this server offers no choice of layers") : noSession();
    await this.connection.http.postJson(url, choice ?? {});
    this.choice = choice;
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
    this.fallback?.stop();
    return this.connection.close();
  }

  protected override listenersChanged(): void {
    this.connection.measure(this.listens("stats"), (report) => {
      if (!this.fallback?.playing) this.emit("stats", this.meter.read(report));
    });
    const { session } = this.connection.recovery;
    if (session) this.openChannel(session);
  }

  private fallbackTo(fallback: HlsFallback, video: HTMLVideoElement): Fallback {
    const { recovery, http } = this.connection;
    return new Fallback({
      fallback,
      video,
      http,
      onPlaying: () => {
        recovery.unhurried = true;
        this.closeChannel();
        this.comesBy("hls");
        this.tell({ state: "connected", error: null, lost: null, retryInMs: null });
      },
      onLost: (error, hasPlayed) => {
        recovery.unhurried = false;
        // It is tried again and again; the same words are said once.
        if (hasPlayed || this.hlsFault !== error.message) this.emit("error", error);
        this.hlsFault = error.message;
        if (!hasPlayed) return;
        this.tell(this.change);
        // Whether the stream is over, or only HLS, is for the server to say.
        recovery.retryNow();
      },
      onTakenOver: (stream) => {
        recovery.unhurried = false;
        this.shows(stream);
        this.comesBy("webrtc");
        if (recovery.session) this.openChannel(recovery.session);
      },
    });
  }

  /** The WHEP connection's state is another one. */
  private changed(change: StateChange): void {
    if (change.error) this.elsewhere = null;
    this.change = change;
    this.fallback?.follow(change, this.pending);
    if (this.fallback?.playing) return;
    this.connection.recovery.unhurried = false;
    if (change.state === "connected" && !this.fallback?.hasVideo) this.comesBy("webrtc");
    this.tell(change);
  }

  private tell(change: Omit<StateChange, "previous">): void {
    const previous = this.state;
    this.state = change.state;
    this.emit("state", { ...change, previous });
  }

  private comesBy(transport: Transport): void {
    if (this.transport === transport) return;
    this.transport = transport;
    this.emit("transport", transport);
  }

  private shows(stream: MediaStream): void {
    if (this.stream === stream) return;
    this.stream = stream;
    this.emit("stream", stream);
  }

  private opened(session: Session): void {
    this.meter = new ViewerMeter();
    const { video } = this.options;
    if (this.pending && !this.fallback?.hasVideo) {
      if (video) void show(video, this.pending);
      this.shows(this.pending);
    }
    if (this.connection.recovery.session !== session) return;
    this.openChannel(session);
    if (this.choice) void this.setLayer(this.choice).catch((thrown: unknown) => this.emit("error", asSignallingError(thrown)));
  }

  private extension(relation: string): string | null {
    const { session } = this.connection.recovery;
    const link = session && linkOf(session.answer.links, relation);
    return link ? new URL(link.target, session.answer.base).href : null;
  }

  /**
   * An event stream of the types that somebody listens for. It costs a connection, of which a browser has six per server by HTTP/1.1,
   * for all of its pages together: a hidden page has none.
   */
  private openChannel(session: Session): void {
    const link = linkOf(session.answer.links, EVENTS_RELATION);
    const offered = link?.parameters["events"]?.split(",").map((type) => type.trim());
    const wanted = EVENT_TYPES.filter((type) => type !== "reconnect" && this.listens(type));
    const types =
      wanted.length === 0 || !this.visible || this.fallback?.hasVideo
        ? []
        : [...wanted, "reconnect" as const].filter((type) => offered?.includes(type) ?? true);
    if (types.join() === this.channelTypes && (this.channel !== null || types.length === 0)) return;
    this.closeChannel();
    const url = this.extension(EVENTS_RELATION);
    if (url === null || types.length === 0) return;
    this.channelTypes = types.join();
    this.channelBase = session.answer.base;
    const channel = new AbortController();
    this.channel = channel;
    void readEvents({
      http: this.connection.http,
      url,
      types,
      signal: channel.signal,
      onEvent: (event) => this.said(event),
    });
  }

  private closeChannel(): void {
    this.channel?.abort(new DOMException("no events are wanted any more", "AbortError"));
    this.channel = null;
    this.channelTypes = "";
  }

  private said(event: WhepEvent): void {
    switch (event.type) {
      case "active":
      case "inactive":
        this.active = event.type === "active";
        return this.emit(event.type, undefined);
      case "layers":
        this.layers = event.layers;
        return this.emit("layers", event.layers);
      case "viewercount":
        this.viewerCount = event.viewers;
        return this.emit("viewercount", event.viewers);
      case "reconnect":
        this.elsewhere = this.resolved(event.url);
        return this.connection.recovery.replace();
    }
  }

  /** Where the server sends a viewer, relative to where it is; what is no HTTP URL is not gone to. */
  private resolved(url: string | null): string | null {
    if (url === null) return null;
    try {
      const base = new URL(this.channelBase);
      const to = new URL(url, base);
      return to.protocol === "https:" || to.protocol === base.protocol ? to.href : null;
    } catch {
      return null;
    }
  }
}

function viewing(stream: MediaStream, bufferMs: number): Media {
  const tune = (sdp: string): string => setFormatParameters(sdp, "opus", { stereo: 1 });
  return {
    listen(pc) {
      pc.addEventListener("track", ({ track, receiver }) => {
        setBuffer(receiver, bufferMs);
        stream.addTrack(track);
      });
    },
    offer(pc) {
      for (const kind of ["video", "audio"] as const) {
        setBuffer(pc.addTransceiver(kind, { direction: "recvonly", streams: [stream] }).receiver, bufferMs);
      }
    },
    tuneLocal: tune,
    tuneRemote: (sdp) => sdp,
  };
}

function setBuffer(receiver: RTCRtpReceiver, ms: number): void {
  // The standard's name first; Chromium before 124 knows the second only, in seconds. Each is ignored where it is unknown.
  Object.assign(receiver, { jitterBufferTarget: ms, playoutDelayHint: ms / 1000 });
}
