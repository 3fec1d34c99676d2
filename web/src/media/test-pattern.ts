/**
 * A test pattern: colour bars, a moving dot, the time in words and as a strip that players read (`picture-clock.ts`),
 * a flash with a beep on each full second for lip sync, and a quiet tone of its own in each ear.
 */

import { drawClock } from "./picture-clock";

export interface TestPattern {
  readonly media: MediaStream;
  stop(): void;
}

const BARS = ["#c0c0c0", "#c0c000", "#00c0c0", "#00c000", "#c000c0", "#c00000", "#0000c0"];
/** How long the flash and the beep last. */
const FLASH_MS = 100;
/** How late an animation frame may be until the audio clock takes over: tabs in the background get few or none. */
const LATE_MS = 12;

export function startTestPattern(width: number, height: number, fps: number): TestPattern {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { alpha: false });
  if (!context) throw new Error("this browser cannot draw on a canvas");
  const background = drawBackground(width, height);

  const controller = new AbortController();
  const { signal } = controller;
  const tone = startTone(signal);
  const output = outputOf(canvas);
  const frameMs = 1_000 / fps;
  let animation = 0;
  let dueMs = performance.now();

  const tick = (): void => {
    if (signal.aborted) return;
    cancelAnimationFrame(animation);
    const nowMs = performance.now();
    // Half a frame of the usual 60 Hz early is on time; being late by more than a frame is not made up for.
    if (nowMs >= dueMs - 8) {
      dueMs = Math.max(dueMs + frameMs, nowMs - frameMs);
      draw(context, background, Date.now());
      output.push(nowMs);
      tone.after(dueMs + LATE_MS - nowMs, tick);
    }
    animation = requestAnimationFrame(tick);
  };
  tick();

  const media = new MediaStream([output.track, ...tone.media.getAudioTracks()]);
  return {
    media,
    stop: () => {
      controller.abort();
      cancelAnimationFrame(animation);
      for (const track of media.getTracks()) track.stop();
    },
  };
}

/** Chromium's way to make a track of single pictures (mediacapture-transform, its first form). */
interface TrackGenerator extends MediaStreamTrack {
  readonly writable: WritableStream<VideoFrame>;
}

interface Output {
  readonly track: MediaStreamTrack;
  /** The canvas holds a new picture. */
  push(nowMs: number): void;
}

/**
 * A canvas as a video track. Where pictures can be handed over one by one they are: `captureStream` delivers with the
 * page's next rendering, which comes a frame later, and once a second when the tab is in the background.
 */
function outputOf(canvas: HTMLCanvasElement): Output {
  const { MediaStreamTrackGenerator: Generator } = window as {
    MediaStreamTrackGenerator?: new (init: { kind: "video" }) => TrackGenerator;
  };
  const [captured] = Generator ? [] : canvas.captureStream().getVideoTracks();
  if (captured) return { track: captured, push: () => undefined };
  if (!Generator) throw new Error("this browser cannot make a video of a canvas");
  const track = new Generator({ kind: "video" });
  const writer = track.writable.getWriter();
  return {
    track,
    push: (nowMs) => {
      // Full: whoever takes the pictures is behind; a later picture serves better.
      if ((writer.desiredSize ?? 0) <= 0) return;
      const picture = new VideoFrame(canvas, { timestamp: nowMs * 1_000 });
      // The track owns the picture now; it was stopped if this fails.
      void writer.write(picture).catch(() => picture.close());
    },
  };
}

/** What does not move is drawn once. */
function drawBackground(width: number, height: number): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { alpha: false });
  if (!context) return canvas;
  const bar = width / BARS.length;
  BARS.forEach((colour, index) => {
    context.fillStyle = colour;
    context.fillRect(Math.floor(index * bar), 0, Math.ceil(bar), height);
  });
  const ramp = context.createLinearGradient(0, 0, width, 0);
  ramp.addColorStop(0, "#000");
  ramp.addColorStop(1, "#fff");
  context.fillStyle = ramp;
  context.fillRect(0, height * 0.78, width, height * 0.22);
  return canvas;
}

function draw(context: CanvasRenderingContext2D, background: HTMLCanvasElement, unixMs: number): void {
  const { width, height } = context.canvas;
  context.drawImage(background, 0, 0);
  const phase = (unixMs % 4_000) / 4_000;

  // A dot on a circle and a bar along the bottom: stutter is seen at once.
  const angle = phase * 2 * Math.PI;
  context.fillStyle = "#fff";
  context.beginPath();
  context.arc(width * (0.5 + 0.34 * Math.sin(angle)), height * (0.42 - 0.24 * Math.cos(angle)), height * 0.06, 0, 7);
  context.fill();
  context.fillStyle = "#f03e3e";
  context.fillRect(((unixMs % 2_000) / 2_000) * width, height * 0.78, width * 0.012, height * 0.22);

  const flash = unixMs % 1_000 < FLASH_MS;
  context.fillStyle = flash ? "#fff" : "#0a1216";
  context.fillRect(width * 0.27, height * 0.33, width * 0.46, height * 0.18);
  context.fillStyle = flash ? "#0a1216" : "#fff";
  context.font = `600 ${Math.round(height * 0.105)}px ui-monospace, Menlo, "DejaVu Sans Mono", monospace`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(new Date(unixMs).toISOString().slice(11, 23), width / 2, height * 0.425, width * 0.44);
  drawClock(context, unixMs);
}

interface Tone {
  readonly media: MediaStream;
  /**
   * Calls back after so many ms by the audio clock, which runs on in hidden tabs; a call replaces the one before. Does
   * nothing while the clock stands.
   */
  after(ms: number, callback: () => void): void;
}

/** 440 Hz left, 554 Hz right, and a 1 kHz beep in both at each full second. */
function startTone(signal: AbortSignal): Tone {
  const audio = new AudioContext({ latencyHint: "interactive" });
  const out = audio.createMediaStreamDestination();
  out.channelCount = 2;
  const merger = audio.createChannelMerger(2);
  merger.connect(out);
  const voice = (hz: number, gain: number): GainNode => {
    const oscillator = audio.createOscillator();
    oscillator.frequency.value = hz;
    const level = audio.createGain();
    level.gain.value = gain;
    oscillator.connect(level);
    oscillator.start();
    return level;
  };
  voice(440, 0.06).connect(merger, 0, 0);
  voice(554, 0.06).connect(merger, 0, 1);
  const beep = voice(1_000, 0);
  beep.connect(merger, 0, 0);
  beep.connect(merger, 0, 1);

  // Each beep is scheduled on the audio clock less than a second ahead, so a late timer moves none.
  const scheduleBeep = (): void => {
    const inSeconds = (1_000 - (Date.now() % 1_000)) / 1_000;
    const at = audio.currentTime + inSeconds;
    beep.gain.setValueAtTime(0.25, at);
    beep.gain.setValueAtTime(0, at + FLASH_MS / 1_000);
  };
  scheduleBeep();
  const timer = setInterval(scheduleBeep, 1_000);
  // Browsers start a context suspended unless the page was clicked; ours starts from the "Go live" button.
  void audio.resume();
  signal.addEventListener("abort", () => {
    clearInterval(timer);
    void audio.close();
  });

  let waiting: ConstantSourceNode | null = null;
  const after = (ms: number, callback: () => void): void => {
    if (waiting) waiting.onended = null;
    if (audio.state !== "running") return;
    // A silent source whose end is the alarm.
    waiting = audio.createConstantSource();
    waiting.offset.value = 0;
    waiting.connect(merger, 0, 0);
    waiting.onended = callback;
    waiting.start();
    waiting.stop(audio.currentTime + Math.max(0, ms) / 1_000);
  };
  return { media: out.stream, after };
}
