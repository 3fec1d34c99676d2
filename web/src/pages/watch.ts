/**
 * The player's page: plays at once and muted, as browsers allow; comes back by itself; shows how it is doing.
 *
 * The last picture stays on screen, on a canvas over the video, while a new session is made. Where WebRTC finds no way, HLS plays
 * until it does.
 */

import { watch, type StateChange, type Transport, type Viewer, type ViewerStats } from "@sluice-media/client";
import { ClockReader } from "../media/picture-clock";
import { byId, setText, showFigures } from "../ui/dom";
import { EventLog, expose } from "../ui/expose";
import { count, milliseconds, UNKNOWN } from "../ui/format";
import { pageLink, streamOf, tokenOf } from "../ui/place";
import { nextFrame } from "./next-frame";
import { QualityMenu } from "./quality-menu";
import { wireControls } from "./watch-controls";
import { figures, TRANSPORTS } from "./watch-figures";
import { words, type WatchState } from "./watch-words";

/** How often what is shown is looked at again: figures, seconds to go, pauses. */
const RENDER_INTERVAL_MS = 1_000;
/** No picture for this long is shown as a pause of the publisher; shorter ones are only counted. */
const STALL_MS = 1_500;
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
  state: "connecting" as WatchState,
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
  /** Times that the media's path fell silent and another one was looked for. */
  interruptions: 0,
  /** By which way pictures come. */
  transport: null as Transport | null,
  viewers: null as number | null,
  layers: 0,
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

let freezesBefore = 0;
/** What the element has shown so far: sessions, and HLS. */
let sources = 0;
/** Another source has taken over with the last picture of the one before on the screen: nothing is missing. */
let takenOver = false;
let lastFrameAtMs = 0;
let retryAtMs: number | null = null;
let change: Pick<StateChange, "state" | "error" | "lost"> = { state: "connecting", error: null, lost: null };
/**
 * What is known of a stream that cannot be played now, while the player asks again: shown on, and not logged each time.
 */
let askedBefore: typeof change | null = null;

/** Nothing is wrong with the connection: another publisher must come. */
function awaitsPublisher(of: typeof change): boolean {
  return of.state === "offline" || of.error?.kind === "undecodable";
}

const viewer: Viewer = watch({
  url: `/whep/${encodeURIComponent(stream)}`,
  token,
  video,
  // Most viewers never need it.
  fallback: { hls: `/hls/${encodeURIComponent(stream)}/index.m3u8`, load: () => import("hls.js") },
});
viewer.on("state", (next) => {
  const before = askedBefore ?? (awaitsPublisher(change) ? change : null);
  askedBefore = next.state === "connecting" ? before : null;
  if (askedBefore === null && !(before?.state === next.state && before.error?.kind === next.error?.kind)) {
    log.add([next.state, next.lost, next.error?.kind].filter(Boolean).join(": "));
  }
  change = next;
  retryAtMs = next.retryInMs === null ? null : performance.now() + next.retryInMs;
  if (next.state === "connecting") beginSession();
  if (next.state === "interrupted") state.interruptions += 1;
  if (next.state === "connected" && next.previous !== "interrupted") state.connectedAtMs = performance.now();
  if (next.error) state.lastError = next.error.message;
  state.attempts = viewer.attempts;
  state.reconnects = viewer.reconnects;
  render();
});
viewer.on("stream", () => {
  // Its pictures have come while HLS still played.
  if (state.transport === "hls") {
    forgetSession();
    takenOver = true;
  }
  state.postedAtMs = viewer.session?.postedAtMs ?? null;
  state.answeredAtMs = viewer.session?.answeredAtMs ?? null;
  awaitFrames();
});
viewer.on("transport", (transport) => {
  log.add(transport);
  state.transport = transport;
  byId("transport").hidden = transport !== "hls";
  setText(byId("transport"), transport === "hls" ? TRANSPORTS.hls : "");
  if (transport === "webrtc") return;
  // What only a WebRTC session has.
  quality.show([]);
  setText(byId("viewers"), "");
  forgetSession();
  awaitFrames();
});
viewer.on("stats", (stats) => {
  state.stats = stats;
  state.freezes = freezesBefore + stats.freezes;
});
// A session may wait for its publisher; that it is back is seen from the pictures.
viewer.on("active", () => log.add("active"));
viewer.on("inactive", () => {
  log.add("inactive");
  render();
});
viewer.on("viewercount", (viewers) => {
  state.viewers = viewers;
  setText(byId("viewers"), `${count(viewers, "viewer")}`);
});
const quality = new QualityMenu(byId<HTMLSelectElement>("quality"), viewer, (fault) => {
  state.lastError = fault;
  log.add(`quality: ${fault}`);
});
viewer.on("layers", (layers) => {
  state.layers = layers.length;
  quality.show(layers);
});

/** Everything of the session before is put away; its last picture stays. */
function beginSession(): void {
  keepPicture();
  takenOver = false;
  forgetSession();
}

function forgetSession(): void {
  freezesBefore = state.freezes;
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

/** Counts what the element shows from now on. Frames of what it showed before are told from those by asking anew. */
function awaitFrames(): void {
  const source = (sources += 1);
  const next = (): void =>
    nextFrame(video, (nowMs, shownAtMs) => {
      if (source !== sources) return;
      next();
      frame(nowMs, shownAtMs);
    });
  next();
}

function frame(nowMs: number, shownAtMs: number): void {
  state.frames += 1;
  lastFrameAtMs = performance.now();
  if (state.firstFrameAtMs === null) {
    // `nowMs` is when the callbacks of this rendering began; the picture went out with it.
    state.firstFrameAtMs = nowMs;
    state.firstFrameMs = state.postedAtMs === null ? null : nowMs - state.postedAtMs;
    state.firstFrameAfterAnswerMs = state.answeredAtMs === null ? null : nowMs - state.answeredAtMs;
    takenOver = false;
    log.add("first frame");
    still.hidden = true;
    render();
  } else if (state.state === "stalled") {
    render();
  }
  if (state.clock.everyFrame || state.frames % CLOCK_EVERY_FRAMES === 1) readClock(shownAtMs);
}

function readClock(shownAtMs: number): void {
  const { clock } = state;
  // The picture is seen when the display shows it, not when this code runs.
  const age = clockReader.read(video, Date.now() + Math.max(0, shownAtMs - performance.now()));
  // Clocks further apart than a minute say nothing about delay.
  clock.latestMs = age !== null && Math.abs(age) < 60_000 ? age : null;
  if (clock.latestMs === null) return;
  clock.samplesMs.push(clock.latestMs);
  if (clock.samplesMs.length > CLOCK_SAMPLES_MAX) clock.samplesMs.shift();
}

function render(): void {
  const flowing = change.state === "connected" || change.state === "interrupted";
  const showing = flowing && (takenOver || state.firstFrameAtMs !== null);
  const stalled = showing && hasVideo() && performance.now() - lastFrameAtMs > STALL_MS && !document.hidden;
  if (showing) state.state = !stalled ? "playing" : change.state === "interrupted" ? "interrupted" : "stalled";
  else if (soundOnly()) state.state = "playing";
  // A session that waits for its publisher shows what one does that is refused until then.
  else if (flowing && viewer.active === false) state.state = "offline";
  else state.state = (askedBefore ?? change).state;
  player.dataset["state"] = state.state;

  const text = words({
    stream,
    state: state.state,
    seen: state.frames > 0,
    error: (askedBefore ?? change).error,
    lost: change.lost,
    retryInMs: retryAtMs === null ? null : retryAtMs - performance.now(),
    path: location.pathname,
  });
  overlay.toggleAttribute("data-hidden", text === null);
  setText(byId("headline"), text?.headline ?? "");
  setText(byId("explanation"), text?.explanation ?? "");
  byId("spinner").hidden = !["connecting", "connected", "interrupted", "stalled", "offline", "waiting"].includes(state.state);
  byId("retry").hidden = state.state !== "waiting" && state.state !== "failed";
  byId("publish-link").hidden = state.state !== "offline";

  const badge = byId("badge");
  badge.classList.toggle("live", state.state === "playing");
  const labels: Partial<Record<typeof state.state, string>> = {
    playing: "Live",
    stalled: "Paused",
    interrupted: "Interrupted",
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
  const { stats, transport } = state;
  if (change.state !== "connected") return false;
  if (transport === "hls") return video.videoWidth === 0 && !video.paused;
  return stats !== null && stats.codec === null && (stats.kbps ?? 0) > 0;
}

function delay(ms: number | null): string {
  return ms === null ? "" : milliseconds(ms);
}

function showStats(): void {
  const { stats, clock } = state;
  const playing = state.state === "playing";
  setText(byId("latency"), playing ? delay(clock.latestMs ?? stats?.latencyMs ?? null) : "");
  setText(byId("picture"), playing && stats?.height ? `${stats.height}p ${stats.fps ?? UNKNOWN}` : "");
  if (byId("stats").hidden) return;
  const [width, height] = [video.videoWidth || null, video.videoHeight || null];
  showFigures(byId("stats"), figures({ ...state, width, height, clockMs: clock.latestMs }));
}

document.title = `${stream} - Sluice`;
setText(byId("title"), `Watch ${stream}`);
setText(byId("name"), stream);
byId<HTMLAnchorElement>("publish-link").href = pageLink("publish", stream, token);
if (token !== null) byId<HTMLAnchorElement>("home").href = `/#token=${encodeURIComponent(token)}`;
wireControls({
  player,
  video,
  isPlaying: () => state.state === "playing",
  onMuted: (muted) => {
    state.muted = muted;
    render();
  },
  onPanel: showStats,
  onRetry: () => viewer.retryNow(),
});
// Frames that a hidden page did not show are no stall.
document.addEventListener("visibilitychange", () => (lastFrameAtMs = performance.now()));
setInterval(() => {
  showStats();
  render();
}, RENDER_INTERVAL_MS);
