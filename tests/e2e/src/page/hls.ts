// A page that plays LL-HLS by hls.js, as its documentation shows it, and reads the picture clock from every frame shown.

import Hls from "hls.js";
import * as clock from "../clock.ts";
import { hear, readPicture, type Heard } from "./picture.ts";

export interface HlsShown {
  atMs: number;
  ageMs: number;
  source: number;
}

export interface HlsReport {
  shown: HlsShown[];
  unreadable: number;
  heard: Heard;
  /** From the call to the first picture shown. */
  firstPictureMs: number | undefined;
  /** The player waited for media after its first picture. */
  stalls: number;
  /** Details of errors, fatal ones with an exclamation mark. */
  errors: string[];
  levels: { width: number; height: number; codecs: string | undefined; bitrate: number }[];
  /** What hls.js takes for its latency, seconds. */
  latencyS: number;
  width: number;
}

let hls: Hls | undefined;
let shown: HlsShown[] = [];
let unreadable = 0;
let stalls = 0;
let errors: string[] = [];
let beganMs = 0;
let firstPictureMs: number | undefined;
let heard: Heard = { beepsMs: [], rms: 0 };
const video = document.createElement("video");
video.autoplay = true;
video.playsInline = true;
document.body.append(video);

function watchFrames(): void {
  const onFrame = (): void => {
    video.requestVideoFrameCallback(onFrame);
    const atMs = Date.now();
    firstPictureMs ??= performance.now() - beganMs;
    const { reading } = readPicture(video);
    if (reading === undefined) unreadable += 1;
    else shown.push({ atMs, ageMs: clock.age(reading, atMs), source: reading.source });
  };
  video.requestVideoFrameCallback(onFrame);
}

async function start(url: string, token?: string): Promise<void> {
  beganMs = performance.now();
  const authorize = (xhr: XMLHttpRequest): void => {
    if (token !== undefined) xhr.setRequestHeader("Authorization", `Bearer ${token}`);
  };
  hls = new Hls({ lowLatencyMode: true, ...(token === undefined ? {} : { xhrSetup: authorize }) });
  hls.on(Hls.Events.ERROR, (_, { details, fatal, error }) => void errors.push(`${details}${fatal ? "!" : ""} ${error.message}`));
  video.addEventListener("waiting", () => (stalls += firstPictureMs === undefined ? 0 : 1));
  watchFrames();
  hls.loadSource(url);
  hls.attachMedia(video);
  void video.play().catch(() => undefined);
  heard = await hear((sound) => sound.createMediaElementSource(video));
}

function report(): HlsReport {
  const levels = (hls?.levels ?? []).map(({ width, height, bitrate, attrs }) => ({ width, height, bitrate, codecs: attrs["CODECS"] }));
  const latencyS = hls?.latency ?? 0;
  return { shown, unreadable, heard, firstPictureMs, stalls, errors, levels, latencyS, width: video.videoWidth };
}

/** Forgets what was shown and heard so far; the player goes on. */
function reset(): void {
  shown = [];
  errors = [];
  heard.beepsMs.length = 0;
  unreadable = stalls = 0;
}

function framesOf(source: number): number {
  return shown.filter((frame) => frame.source === source).length;
}

/** Goes over to the variant of so many rows at the next segment, and keeps to it. */
function lockLevel(rows: number): void {
  if (hls !== undefined) hls.nextLevel = hls.levels.findIndex(({ height }) => height === rows);
}

export const hlsPlayer = { start, report, reset, framesOf, lockLevel };
declare global {
  interface Window {
    hlsPlayer: typeof hlsPlayer;
  }
}
window.hlsPlayer = hlsPlayer;
