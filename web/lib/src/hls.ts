/**
 * Playing HLS in a video element: by hls.js, which is fetched when it is needed first, else by the browser itself.
 *
 * One playback is one attempt: it plays until it is stopped, or says once that it is lost. It knows nothing of WebRTC. Playlists are asked
 * for with the token: in a header, or as `?token=` (RFC 6750, section 2.3) where a header would cost each request a preflight, or cannot be
 * sent. Media is asked for by the names that playlists give it.
 */

import type { Http } from "./http.ts";
import { asSignallingError, SignallingError } from "./problem.ts";

export interface HlsFallback {
  /** The multivariant playlist, `/hls/{stream}/index.m3u8`: absolute, or relative to the page. */
  readonly hls: string | URL;
  /**
   * Gives hls.js, as its module or its class: `() => import("hls.js")`. Called when it is needed first. Without it, only browsers
   * that play HLS themselves have a fallback.
   */
  readonly load?: () => Promise<unknown>;
  /** How long WebRTC may have no path for media until HLS is begun, in ms. Default: 4000, enough for a relay over TLS. */
  readonly afterMs?: number;
}

/** As much of hls.js as is used here. */
interface HlsJs {
  loadSource(url: string): void;
  attachMedia(video: HTMLVideoElement): void;
  on(event: string, listener: (event: string, fault: HlsJsFault) => void): void;
  recoverMediaError(): void;
  destroy(): void;
}

interface HlsJsFault {
  readonly fatal: boolean;
  readonly type: string;
  readonly details: string;
}

interface HlsJsClass {
  new (config: object): HlsJs;
  isSupported(): boolean;
}

export interface PlaybackOptions {
  readonly fallback: HlsFallback;
  readonly video: HTMLVideoElement;
  readonly http: Http;
  /** Called before the element is taken over. */
  prepare(): Promise<void>;
  /** Pictures are shown. */
  onPlaying(): void;
  /** Once, unless it was stopped. */
  onLost(error: SignallingError): void;
}

const HLS_TYPE = "application/vnd.apple.mpegurl";
/** Until the first picture: a server may have to begin its first segment, and the network is bad already. */
const START_PATIENCE_MS = 20_000;
/** Playing time that stands still for this long has no stream behind it any more. */
const STILL_PATIENCE_MS = 10_000;
const LOOK_MS = 1_000;

export class HlsPlayback {
  private readonly over = new AbortController();
  private player: HlsJs | null = null;
  private ownSource: string | null = null;
  private playing = false;
  private mediaErrors = 0;
  private readonly startTimer: ReturnType<typeof setTimeout>;
  private lookTimer: ReturnType<typeof setInterval> | undefined;
  private lastTimeS = -1;
  private stillMs = 0;

  constructor(private readonly options: PlaybackOptions) {
    const late = new SignallingError("unreachable", "HLS shows no picture");
    this.startTimer = setTimeout(() => this.lose(late), START_PATIENCE_MS);
    this.begin().catch((thrown: unknown) => this.lose(asSignallingError(thrown)));
  }

  /** Lets go of the element; nothing is said any more. Safe to call twice. */
  stop(): void {
    if (this.over.signal.aborted) return;
    this.over.abort(new DOMException("HLS is over", "AbortError"));
    clearTimeout(this.startTimer);
    clearInterval(this.lookTimer);
    this.player?.destroy();
    this.player = null;
    const { video } = this.options;
    if (this.ownSource !== null && video.getAttribute("src") === this.ownSource) {
      video.removeAttribute("src");
      video.load();
    }
  }

  private async begin(): Promise<void> {
    const { fallback, video, http, prepare } = this.options;
    const { signal } = this.over;
    const url = new URL(fallback.hls, globalThis.location?.href);
    // A server without HLS, or without this stream, costs neither the picture that stands nor a library.
    await http.look(url, signal);
    const Player = await loaded(fallback.load);
    if (signal.aborted) return;
    if (Player === null && video.canPlayType(HLS_TYPE) === "") {
      throw new SignallingError("unsupported", "this browser cannot play HLS");
    }
    await prepare();
    if (signal.aborted) return;
    video.srcObject = null;
    this.watch(video);
    if (Player) this.byHlsJs(Player, url);
    else await this.byBrowser(url);
    await play(video);
  }

  private byHlsJs(Player: HlsJsClass, url: URL): void {
    const { video, http } = this.options;
    const player = new Player({
      lowLatencyMode: true,
      // Made from a blob: policies of pages seldom allow it, and fragmented MP4 leaves it little to do.
      enableWorker: false,
      xhrSetup: async (xhr: XMLHttpRequest, of: string): Promise<void> => {
        const token = await http.tokens.get().catch(() => null);
        open(xhr, of, url, token);
      },
    });
    this.player = player;
    player.on("hlsError", (_, { fatal, type, details }) => {
      if (!fatal) return;
      this.mediaErrors += Number(type === "mediaError");
      if (type === "mediaError" && this.mediaErrors === 1) player.recoverMediaError();
      else this.lose(new SignallingError("network", `HLS broke off: ${details}`));
    });
    player.attachMedia(video);
    player.loadSource(url.href);
  }

  private async byBrowser(url: URL): Promise<void> {
    const { video, http } = this.options;
    const token = await http.tokens.get();
    if (this.over.signal.aborted) return;
    this.ownSource = withToken(url.href, token);
    video.addEventListener("error", () => this.lose(new SignallingError("network", "HLS broke off")), {
      signal: this.over.signal,
    });
    video.src = this.ownSource;
  }

  /** Says that pictures move, and that they do no more. */
  private watch(video: HTMLVideoElement): void {
    const began = (): void => {
      if (this.playing || this.over.signal.aborted) return;
      this.playing = true;
      clearTimeout(this.startTimer);
      this.lookTimer = setInterval(() => this.look(video), LOOK_MS);
      this.options.onPlaying();
    };
    video.addEventListener("playing", began, { signal: this.over.signal });
  }

  private look({ currentTime, paused }: HTMLVideoElement): void {
    const moves = currentTime !== this.lastTimeS;
    this.lastTimeS = currentTime;
    // Who has paused it wants it to stand still, and browsers let what nobody sees stand.
    const mayStand = paused || (globalThis as { document?: Document }).document?.hidden === true;
    this.stillMs = moves || mayStand ? 0 : this.stillMs + LOOK_MS;
    if (this.stillMs >= STILL_PATIENCE_MS) this.lose(new SignallingError("unreachable", "HLS stands still"));
  }

  private lose(error: SignallingError): void {
    if (this.over.signal.aborted) return;
    this.stop();
    this.options.onLost(error);
  }
}

/** hls.js where it can be had and works; `null`: the browser must do. */
async function loaded(load: HlsFallback["load"]): Promise<HlsJsClass | null> {
  const module: unknown = await load?.().catch(() => null);
  const found: unknown = typeof module === "function" ? module : (module as { default?: unknown } | null | undefined)?.default;
  if (typeof found !== "function" || !("isSupported" in found)) return null;
  const Player = found as HlsJsClass;
  return Player.isSupported() ? Player : null;
}

/** Opens a request of hls.js: for a playlist with the token, if it goes where the first one came from. Nobody else is shown it. */
function open(xhr: XMLHttpRequest, of: string, playlist: URL, token: string | null): void {
  const { origin, pathname } = new URL(of, playlist);
  const isOurs = origin === playlist.origin && pathname.endsWith(".m3u8") && token !== null && token !== "";
  const isOwnPage = origin === globalThis.location?.origin;
  xhr.open("GET", isOurs && !isOwnPage ? withToken(of, token) : of, true);
  if (isOurs && isOwnPage) xhr.setRequestHeader("Authorization", `Bearer ${token}`);
}

function withToken(url: string, token: string | null): string {
  if (token === null || token === "") return url;
  const to = new URL(url);
  to.searchParams.set("token", token);
  return to.href;
}

/** Muted where the browser allows no other. */
async function play(video: HTMLVideoElement): Promise<void> {
  video.playsInline = true;
  try {
    await video.play();
  } catch (thrown) {
    if (!(thrown instanceof DOMException) || thrown.name !== "NotAllowedError" || video.muted) return;
    video.muted = true;
    await video.play().catch(() => undefined);
  }
}
