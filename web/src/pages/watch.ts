/**
 * The player's page: plays at once and muted, as browsers allow; comes back by itself; shows how it is doing.
 *
 * The last picture stays on screen, on a canvas over the video, while a new session is made.
 */

import { ClockReader } from "../lib/picture-clock";
import { Player, type PlayerChange, type PlayerState } from "../lib/player";
import { ViewerMeter, type ViewerStats } from "../lib/stats";
import type { WatchSession } from "../lib/whep";
import { byId, setText, showFigures } from "../ui/dom";
import { EventLog, expose } from "../ui/expose";
import { bitrate, framesPerSecond, milliseconds, percent, sentence, size, UNKNOWN } from "../ui/format";
import { pageLink, streamOf, tokenOf } from "../ui/place";

const STATS_INTERVAL_MS = 1_000;
/** No picture for this long is shown as a pause of the publisher; shorter ones are only counted. */
const STALL_MS = 1_500;
/** The bar and the pointer leave the picture alone after this long without a move. */
const QUIET_MS = 3_000;
/** Samples of the picture's clock that tests can read: a minute at 60 fps. */
const CLOCK_SAMPLES_MAX = 3_600;
/** Without a test asking for each, reading one picture's clock in so many is enough for the eye. */
const CLOCK_EVERY_FRAMES = 15;

const stream = streamOf(location.pathname) ?? "";
const token = tokenOf(location);
const log = new EventLog();

const state = expose({
  page: "watch",
  stream,
  state: "idle" as PlayerState | "playing" | "stalled",
  /** When the page asked for the stream first, and, of the present session, when the offer went out, the answer came, media could flow. */
  startedAtMs: performance.now(),
  postedAtMs: null as number | null,
  answeredAtMs: null as number | null,
  connectedAtMs: null as number | null,
  /** When the present session's first picture was handed to the compositor (`requestVideoFrameCallback`). */
  firstFrameAtMs: null as number | null,
  /** From offer sent, and from answer received, to that picture. */
  firstFrameMs: null as number | null,
  firstFrameAfterAnswerMs: null as number | null,
  /** Pictures shown, over all sessions; freezes as the browser counts them, over all sessions. */
  frames: 0,
  freezes: 0,
  reconnects: 0,
  attempts: 0,
  muted: true,
  stats: null as ViewerStats | null,
  lastError: null as string | null,
  events: log.lines,
  /** Age of pictures that carry a clock (the test pattern): glass to glass when both clocks agree. */
  clock: {
    /** Set to true to sample every picture instead of a few a second. */
    everyFrame: false,
    latestMs: null as number | null,
    samplesMs: [] as number[],
  },
});

const player = byId("player");
const video = byId<HTMLVideoElement>("video");
const still = byId<HTMLCanvasElement>("still");
const overlay = byId("overlay");
const clockReader = new ClockReader();

let session: WatchSession | null = null;
let meter = new ViewerMeter();
let freezesBefore = 0;
let lastFrameAtMs = 0;
let retryAtMs: number | null = null;
let change: PlayerChange = { state: "idle", error: null, lost: null, retryInMs: null };
/**
 * What is known of a stream that cannot be played now, while the player asks again: shown on, and not logged each time.
 */
let askedBefore: PlayerChange | null = null;

/** Nothing is wrong with the connection: another publisher must come. */
function awaitsPublisher(of: PlayerChange): boolean {
  return of.state === "offline" || of.error?.kind === "undecodable";
}

const engine = new Player({
  url: `/whep/${encodeURIComponent(stream)}`,
  token,
  onChange(next) {
    const before = askedBefore ?? (awaitsPublisher(change) ? change : null);
    askedBefore = next.state === "connecting" ? before : null;
    if (askedBefore === null && !(before?.state === next.state && before.error?.kind === next.error?.kind)) {
      log.add([next.state, next.lost, next.error?.kind].filter(Boolean).join(": "));
    }
    change = next;
    retryAtMs = next.retryInMs === null ? null : performance.now() + next.retryInMs;
    if (next.state === "connecting") beginSession();
    if (next.state === "connected") state.connectedAtMs = performance.now();
    if (next.error) state.lastError = next.error.message;
    state.attempts = engine.attempts;
    state.reconnects = engine.reconnects;
    render();
  },
  onSession(opened) {
    session = opened;
    state.postedAtMs = opened.postedAtMs;
    state.answeredAtMs = opened.answeredAtMs;
    video.srcObject = opened.stream;
    void play();
    // A session's frames are told from those of the one before by asking anew.
    awaitFrame(opened);
  },
});

/** Everything of the session before is put away; its last picture stays. */
function beginSession(): void {
  keepPicture();
  freezesBefore = state.freezes;
  session = null;
  meter = new ViewerMeter();
  state.postedAtMs = null;
  state.answeredAtMs = null;
  state.connectedAtMs = null;
  state.firstFrameAtMs = null;
  state.firstFrameMs = null;
  state.firstFrameAfterAnswerMs = null;
  state.stats = null;
}

function keepPicture(): void {
  if (state.firstFrameAtMs === null || video.videoWidth === 0) return;
  still.width = video.videoWidth;
  still.height = video.videoHeight;
  still.getContext("2d")?.drawImage(video, 0, 0);
  still.hidden = false;
}

function awaitFrame(of: WatchSession): void {
  video.requestVideoFrameCallback((nowMs, metadata) => {
    if (session !== of) return;
    awaitFrame(of);
    frame(nowMs, metadata);
  });
}

function frame(nowMs: number, metadata: VideoFrameCallbackMetadata): void {
  state.frames += 1;
  lastFrameAtMs = performance.now();
  if (state.firstFrameAtMs === null) {
    // `nowMs` is when the callbacks of this rendering began; the picture went out with it.
    state.firstFrameAtMs = nowMs;
    state.firstFrameMs = nowMs - (state.postedAtMs ?? nowMs);
    state.firstFrameAfterAnswerMs = nowMs - (state.answeredAtMs ?? nowMs);
    log.add("first frame");
    still.hidden = true;
    render();
  } else if (state.state === "stalled") {
    render();
  }
  if (state.clock.everyFrame || state.frames % CLOCK_EVERY_FRAMES === 1) readClock(metadata);
}

function readClock(metadata: VideoFrameCallbackMetadata): void {
  const { clock } = state;
  // The picture is seen when the display shows it, not when this code runs.
  const shownAtMs = Date.now() + Math.max(0, metadata.expectedDisplayTime - performance.now());
  const age = clockReader.read(video, shownAtMs);
  // Clocks further apart than a minute say nothing about delay.
  clock.latestMs = age !== null && Math.abs(age) < 60_000 ? age : null;
  if (clock.latestMs === null) return;
  clock.samplesMs.push(clock.latestMs);
  if (clock.samplesMs.length > CLOCK_SAMPLES_MAX) clock.samplesMs.shift();
}

async function play(): Promise<void> {
  try {
    await video.play();
  } catch (thrown) {
    // A new session interrupts the old one's play(); only a refusal matters, and muted play is refused by few.
    if (!(thrown instanceof DOMException) || thrown.name !== "NotAllowedError") return;
    log.add("play refused");
    if (!video.muted) {
      setMuted(true);
      await video.play().catch(() => undefined);
    }
  }
}

interface Words {
  readonly headline: string;
  readonly explanation: string;
}

function seconds(ms: number): string {
  const left = Math.max(0, Math.ceil(ms / 1_000));
  return left <= 1 ? "in a moment" : `in ${left} s`;
}

/** What the overlay says; `null`: nothing, there is a picture. */
function words(): Words | null {
  const again = retryAtMs === null ? "" : `Trying again ${seconds(retryAtMs - performance.now())}.`;
  const { error } = askedBefore ?? change;
  switch (state.state) {
    case "playing":
      return null;
    case "stalled":
      return {
        headline: "The publisher has paused",
        explanation: "The picture goes on by itself as soon as it comes back.",
      };
    case "offline":
      return { headline: `${stream} is not live yet`, explanation: "It starts here by itself as soon as it is." };
    case "waiting":
      if (error?.kind === "undecodable") {
        return {
          headline: "This browser cannot play it",
          explanation: `${sentence(error.message)} It plays here by itself as soon as the publisher sends something else.`,
        };
      }
      return {
        headline: state.frames > 0 ? "The connection was lost" : "No connection",
        explanation: `${waitingReason()} ${again}`.trim(),
      };
    case "failed":
      return { headline: failure(), explanation: failureAdvice() };
    case "stopped":
      return { headline: "Stopped", explanation: "" };
    default:
      return { headline: state.frames > 0 ? "Reconnecting…" : "Connecting…", explanation: "" };
  }
}

function waitingReason(): string {
  if (change.error) return sentence(change.error.message);
  switch (change.lost) {
    case "closed-by-server":
      return "The server ended the session.";
    case "unreachable":
      return "The server answered, but its media port cannot be reached.";
    case "transport-failed":
      return "The encrypted connection could not be made.";
    default:
      return "";
  }
}

function failure(): string {
  switch (change.error?.kind) {
    case "unauthorised":
      return "This stream needs a token";
    case "forbidden":
      return "This token may not watch here";
    default:
      return "This cannot be played";
  }
}

function failureAdvice(): string {
  const said = change.error ? sentence(change.error.message) : "";
  if (change.error?.kind === "unauthorised")
    return `${said} Open the page as ${location.pathname}?token=… with one that has the subscribe right.`;
  return said;
}

function render(): void {
  const showing = change.state === "connected" && state.firstFrameAtMs !== null;
  const stalled = showing && hasVideo() && performance.now() - lastFrameAtMs > STALL_MS && !document.hidden;
  if (showing) state.state = stalled ? "stalled" : "playing";
  else if (soundOnly()) state.state = "playing";
  else state.state = (askedBefore ?? change).state;
  player.dataset["state"] = state.state;

  const text = words();
  overlay.toggleAttribute("data-hidden", text === null);
  setText(byId("headline"), text?.headline ?? "");
  setText(byId("explanation"), text?.explanation ?? "");
  byId("spinner").hidden = !["connecting", "connected", "idle", "stalled", "offline", "waiting"].includes(state.state);
  byId("retry").hidden = state.state !== "waiting" && state.state !== "failed";
  byId("publish-link").hidden = state.state !== "offline";

  const badge = byId("badge");
  badge.classList.toggle("live", state.state === "playing");
  const labels: Partial<Record<typeof state.state, string>> = {
    playing: "Live",
    stalled: "Paused",
    offline: "Not live",
    failed: "Refused",
  };
  setText(badge, labels[state.state] ?? "Connecting");
  byId("unmute").hidden = !state.muted || state.state !== "playing";
}

function hasVideo(): boolean {
  return state.stats === null || state.stats.framesDecoded > 0;
}

/** A stream without pictures plays when its sound arrives. */
function soundOnly(): boolean {
  const { stats } = state;
  return change.state === "connected" && stats !== null && stats.codec === null && (stats.kbps ?? 0) > 0;
}

async function readStats(): Promise<void> {
  const of = session;
  if (of && of.pc.connectionState !== "closed") {
    const report = await of.pc.getStats();
    if (session === of) {
      state.stats = meter.read(report);
      state.freezes = freezesBefore + state.stats.freezes;
    }
  }
  showStats();
  render();
}

function showStats(): void {
  const { stats, clock } = state;
  const playing = state.state === "playing";
  setText(byId("latency"), playing && stats ? milliseconds(clock.latestMs ?? stats.latencyMs) : "");
  setText(byId("picture"), playing && stats?.height ? `${stats.height}p ${stats.fps ?? UNKNOWN}` : "");
  if (byId("stats").hidden) return;
  showFigures(byId("stats"), [
    {
      key: "latency",
      label: "Delay (estimate)",
      value: milliseconds(stats?.latencyMs ?? null),
      hint: "Half the round trip, plus jitter buffer and decoder. The publisher’s own way to the server is not in it.",
    },
    ...(clock.latestMs === null
      ? []
      : [
          {
            key: "clock",
            label: "Glass to glass",
            value: milliseconds(clock.latestMs),
            hint: "Read from the test pattern’s clock; true when both computers’ clocks agree.",
          },
        ]),
    { key: "resolution", label: "Resolution", value: size(stats?.width ?? null, stats?.height ?? null) },
    { key: "fps", label: "Frame rate", value: framesPerSecond(stats?.fps ?? null) },
    { key: "bitrate", label: "Bitrate", value: bitrate(stats?.kbps ?? null) },
    { key: "codec", label: "Codec", value: [stats?.codec, stats?.audioCodec].filter(Boolean).join(" + ") || UNKNOWN },
    { key: "loss", label: "Loss", value: percent(stats?.lossPercent ?? null), bad: (stats?.lossPercent ?? 0) > 2 },
    { key: "rtt", label: "Round trip", value: milliseconds(stats?.rttMs ?? null) },
    { key: "jitter", label: "Jitter buffer", value: milliseconds(stats?.jitterBufferMs ?? null) },
    { key: "decode", label: "Decoder", value: milliseconds(stats?.decodeMs ?? null) },
    { key: "freezes", label: "Freezes", value: String(state.freezes), bad: state.freezes > 0 },
    { key: "dropped", label: "Dropped frames", value: String(stats?.framesDropped ?? 0) },
    { key: "first", label: "First picture after", value: milliseconds(state.firstFrameMs) },
    { key: "reconnects", label: "Reconnects", value: String(state.reconnects) },
  ]);
}

function setMuted(muted: boolean): void {
  video.muted = muted;
  state.muted = muted;
  const button = byId("mute");
  button.setAttribute("aria-pressed", String(muted));
  if (!muted) void play();
  render();
}

async function toggleFullscreen(): Promise<void> {
  if (document.fullscreenElement) return document.exitFullscreen();
  // An iPhone makes only the video itself full screen, by a method of its own.
  const phone = video as HTMLVideoElement & { webkitEnterFullscreen?: () => void };
  if (player.requestFullscreen) await player.requestFullscreen().catch(() => undefined);
  else phone.webkitEnterFullscreen?.();
}

function toggleStats(): void {
  const panel = byId("stats");
  panel.hidden = !panel.hidden;
  byId("info").setAttribute("aria-pressed", String(!panel.hidden));
  showStats();
}

async function togglePictureInPicture(): Promise<void> {
  const action = document.pictureInPictureElement ? document.exitPictureInPicture() : video.requestPictureInPicture();
  await action.catch(() => undefined);
}

let quietTimer: ReturnType<typeof setTimeout> | undefined;

function awake(): void {
  player.classList.remove("quiet");
  clearTimeout(quietTimer);
  quietTimer = setTimeout(() => player.classList.toggle("quiet", state.state === "playing"), QUIET_MS);
}

function wire(): void {
  byId("unmute").addEventListener("click", () => {
    setMuted(false);
    byId("mute").focus({ preventScroll: true });
  });
  byId("mute").addEventListener("click", () => setMuted(!state.muted));
  byId<HTMLInputElement>("volume").addEventListener("input", ({ target }) => {
    video.volume = Number((target as HTMLInputElement).value);
    if (state.muted && video.volume > 0) setMuted(false);
  });
  byId("info").addEventListener("click", toggleStats);
  byId("fullscreen").addEventListener("click", () => void toggleFullscreen());
  byId("retry").addEventListener("click", () => engine.retryNow());
  const pip = byId("pip");
  pip.hidden = !document.pictureInPictureEnabled;
  pip.addEventListener("click", () => void togglePictureInPicture());
  document.addEventListener("fullscreenchange", () => {
    byId("fullscreen").setAttribute("aria-pressed", String(document.fullscreenElement !== null));
  });

  const keys: Readonly<Record<string, () => void>> = {
    m: () => setMuted(!state.muted),
    f: () => void toggleFullscreen(),
    i: toggleStats,
    p: () => void togglePictureInPicture(),
  };
  document.addEventListener("keydown", (event) => {
    awake();
    if (event.ctrlKey || event.metaKey || event.altKey || event.target instanceof HTMLInputElement) return;
    keys[event.key.toLowerCase()]?.();
  });
  for (const type of ["pointermove", "pointerdown", "focusin"]) document.addEventListener(type, awake);
  video.addEventListener("dblclick", () => void toggleFullscreen());

  window.addEventListener("online", () => engine.retryNow());
  document.addEventListener("visibilitychange", () => {
    // Timers slept: what should have been tried is tried now; frames that were not shown are no stall.
    lastFrameAtMs = performance.now();
    if (!document.hidden) engine.retryNow();
  });
  window.addEventListener("pagehide", () => engine.stop());
  // Back from the browser's page cache.
  window.addEventListener("pageshow", ({ persisted }) => persisted && engine.start());
}

document.title = `${stream} - Sluice`;
setText(byId("title"), `Watch ${stream}`);
setText(byId("name"), stream);
byId<HTMLAnchorElement>("publish-link").href = pageLink("publish", stream, token);
if (token !== null) byId<HTMLAnchorElement>("home").href = `/#token=${encodeURIComponent(token)}`;
wire();
awake();
engine.start();
setInterval(() => void readStats(), STATS_INTERVAL_MS);
