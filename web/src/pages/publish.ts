/** The publisher's page: capture, preview, WHIP, live figures. */

import { publish, type Publisher, type PublisherStats, type SignallingError, type StateChange } from "@sluice-media/client";
import { capture, captureFault, type Capture } from "../media/capture";
import { byId, copyable, setText, showFigures } from "../ui/dom";
import { EventLog, expose } from "../ui/expose";
import { duration, sentence } from "../ui/format";
import { streamOf, tokenOf, urlsOf } from "../ui/place";
import { figures } from "./publish-figures";
import { PublishForm } from "./publish-form";

type State = "idle" | "starting" | "live" | "reconnecting";

const stream = streamOf(location.pathname) ?? "";
const token = tokenOf(location);
const log = new EventLog();
const state = expose({
  page: "publish",
  stream,
  state: "idle" as State,
  /** When "Go live" was pressed, the answer was there, and media could flow. */
  startedAtMs: null as number | null,
  answeredAtMs: null as number | null,
  connectedAtMs: null as number | null,
  reconnects: 0,
  /** Times that the media's path fell silent and another one was looked for. */
  interruptions: 0,
  stats: null as PublisherStats | null,
  lastError: null as string | null,
  events: log.lines,
});

const elements = {
  preview: byId<HTMLVideoElement>("preview"),
  start: byId<HTMLButtonElement>("start"),
  stop: byId<HTMLButtonElement>("stop"),
  mute: byId<HTMLButtonElement>("mute"),
  blank: byId<HTMLButtonElement>("blank"),
};
const form = new PublishForm((kbps) => void onAir?.publisher.setVideoKbps(kbps));

/** Everything of one time on air; gone when it ends. */
interface OnAir {
  readonly capture: Capture;
  readonly publisher: Publisher;
}

let onAir: OnAir | null = null;

function message(text: string | null, kind: "warn" | "bad" = "bad"): void {
  const element = byId("message");
  element.className = `notice ${kind}`;
  element.hidden = text === null;
  setText(element, text ?? "");
  if (text !== null && kind === "bad") state.lastError = text;
}

const STATE_WORDS: Readonly<Record<State, string>> = {
  idle: "Not live",
  starting: "Starting…",
  live: "Live",
  reconnecting: "Reconnecting…",
};

function enter(next: State): void {
  if (state.state !== next) log.add(next);
  state.state = next;
  const word = byId("state");
  word.dataset["state"] = next === "live" ? "live" : next === "idle" ? "idle" : "bad";
  setText(word, STATE_WORDS[next]);
  const idle = next === "idle";
  elements.start.hidden = !idle;
  elements.stop.hidden = idle;
  byId("live-badge").hidden = next !== "live";
  byId("preview-hint").hidden = !idle;
  form.lock(!idle);
  document.title = `${next === "live" ? "● " : ""}Publish ${stream} - Sluice`;
}

async function start(): Promise<void> {
  if (onAir || state.state !== "idle") return;
  message(null);
  enter("starting");
  state.startedAtMs = performance.now();
  state.answeredAtMs = null;
  state.connectedAtMs = null;
  let captured: Capture;
  try {
    captured = await capture(form.request());
  } catch (thrown) {
    message(captureFault(thrown));
    enter("idle");
    return;
  }
  const publisher = publish({
    url: `/whip/${encodeURIComponent(stream)}`,
    token,
    media: captured.media,
    ...form.encoding(),
  });
  const air: OnAir = { capture: captured, publisher };
  onAir = air;
  elements.preview.srcObject = captured.media;
  // A preview that may not play is no reason not to publish.
  void elements.preview.play().catch(() => undefined);
  wireTracks(captured.media);
  void form.listDevices();
  publisher.on("state", (change) => onAir === air && follow(publisher, change));
  publisher.on("session", () => {
    state.answeredAtMs = performance.now();
    log.add("answered");
  });
  publisher.on("stats", (stats) => onAir === air && show(stats));
}

/** What the page makes of what the connection does. */
function follow(publisher: Publisher, { state: next, previous, error, lost, retryInMs }: StateChange): void {
  if (lost) log.add(`lost: ${lost}`);
  switch (next) {
    case "connected":
      if (previous !== "interrupted") state.connectedAtMs = performance.now();
      state.reconnects = publisher.reconnects;
      message(null);
      return enter("live");
    case "interrupted":
      state.interruptions += 1;
      enter("reconnecting");
      return message("The connection is interrupted. Another path to the server is being looked for.", "warn");
    case "waiting":
      // The first attempt's failure is shown at once; someone is looking. Later ones happen unattended.
      if (state.connectedAtMs === null) return giveUp(error, lost);
      enter("reconnecting");
      return message(waiting(error, lost, retryInMs), "warn");
    case "failed":
      return giveUp(error, lost);
  }
}

function waiting(error: SignallingError | null, lost: StateChange["lost"], retryInMs: number | null): string {
  const why = error?.message ?? (lost === "closed-by-server" ? "the server is stopping" : "the connection was lost");
  const next = retryInMs === null ? "" : ` Next try in ${duration(Math.max(1_000, retryInMs))}.`;
  return `Reconnecting: ${sentence(why)}${next}`;
}

const ADVICE: Partial<Record<SignallingError["kind"], string>> = {
  unauthorised: " Open this page with ?token=… and a token that has the publish right.",
  forbidden: " This token may not publish here.",
};

function giveUp(error: SignallingError | null, lost: StateChange["lost"]): void {
  const wasLive = state.connectedAtMs !== null;
  end();
  if (error?.kind === "ended") return message(sentence(error.message));
  if (lost === "unreachable" || (error?.kind === "unreachable" && !wasLive)) {
    return message(
      "The server answered, but its media port cannot be reached. Is UDP or TCP port 8189 open, and is webrtc.advertise set to its public address?",
    );
  }
  const why = error?.message ?? "the connection was lost";
  message(`${wasLive ? "Given up." : "Not live."} ${sentence(why)}${(error && ADVICE[error.kind]) ?? ""}`);
}

/** Leaves the air; safe to call at any time. */
function end(): void {
  const air = onAir;
  onAir = null;
  if (air) {
    void air.publisher.close();
    air.capture.stop();
  }
  elements.preview.srcObject = null;
  byId("meter").hidden = true;
  elements.mute.hidden = true;
  elements.blank.hidden = true;
  byId("stats").replaceChildren();
  state.stats = null;
  enter("idle");
}

/** The two switches, and the end of a track that the browser or the system takes away. */
function wireTracks(media: MediaStream): void {
  const wire = (button: HTMLButtonElement, track: MediaStreamTrack | undefined): void => {
    button.hidden = !track;
    button.setAttribute("aria-pressed", "false");
    button.onclick = () => {
      if (!track) return;
      track.enabled = !track.enabled;
      button.setAttribute("aria-pressed", String(!track.enabled));
    };
  };
  const [video] = media.getVideoTracks();
  const [audio] = media.getAudioTracks();
  wire(elements.mute, audio);
  wire(elements.blank, video);
  byId("meter").hidden = !audio;
  const air = onAir;
  video?.addEventListener("ended", () => {
    // "Stop sharing" of the browser's own bar, or an unplugged camera.
    if (onAir !== air) return;
    end();
    message("The source ended, so the stream did too.", "warn");
  });
}

function show(stats: PublisherStats): void {
  state.stats = stats;
  // The ear hears ratios: -50 dB to 0 dB over the whole width.
  const decibels = 20 * Math.log10(Math.max(stats.audioLevel ?? 0, 1e-5));
  byId("meter-level").style.setProperty("--level", String(Math.min(1, Math.max(0, 1 + decibels / 50))));
  if (state.state === "live") {
    const { connectedAtMs } = state;
    showFigures(byId("stats"), figures(stats, connectedAtMs === null ? null : performance.now() - connectedAtMs));
  }
}

if (!window.isSecureContext) {
  message(
    "This page is neither https nor localhost: browsers give it no camera, microphone or screen. The test pattern works.",
    "warn",
  );
}

setText(byId("name"), stream);
if (token !== null) byId<HTMLAnchorElement>("home").href = `/#token=${encodeURIComponent(token)}`;
const urls = urlsOf(stream, location.origin, location.hostname);
byId("share").append(copyable("Watch page", urls.watch, "share-watch"), copyable("WHEP", urls.whep, "share-whep"));
byId("share-hint").hidden = token === null;
enter("idle");

elements.start.addEventListener("click", () => void start());
elements.stop.addEventListener("click", () => {
  end();
  elements.start.focus();
});
window.addEventListener("pagehide", end);
