// The watching page: plays by WHEP, reads the picture clock from every frame shown, listens for the beeps.

import { watch as watchByLibrary } from "../../../../web/lib/src/watch.ts";
import * as clock from "../clock.ts";
import { carrier, negotiate, offerCaptureTimes, ownSide, restart, type Carrier, type OwnSide, type Session } from "./http.ts";
import { hear, psnrOfClock, readPicture, type Heard } from "./picture.ts";

/** One frame that was shown and whose clock could be read. */
export interface Shown {
  /** When it was shown, milliseconds since the epoch. */
  atMs: number;
  ageMs: number;
  source: number;
  flash: boolean;
  rtpTimestamp: number | undefined;
}

export interface ViewerReport {
  state: RTCPeerConnectionState;
  /** "closed" as soon as the server said goodbye; the connection's own state takes seconds to follow. */
  dtls: RTCDtlsTransportState | undefined;
  shown: Shown[];
  unreadable: number;
  beepsMs: number[];
  rms: number;
  carrier: Carrier | undefined;
  stats: VideoStats & { audioEnergy: number };
}

/** What the browser knows of when a track's media was captured (webrtc-extensions, RTCRtpContributingSource). */
export interface Capture {
  kind: string;
  /** By the clock of who captured it, milliseconds since the epoch; undefined: no packet has said. */
  capturedAtMs: number | undefined;
  /** What that clock is ahead of the server's. */
  aheadMs: number | undefined;
  rtpTimestamp: number;
}

export interface VideoStats {
  framesDecoded: number;
  framesDropped: number;
  freezeCount: number;
  totalFreezesSeconds: number;
  packetsReceived: number;
  /** On their first way; those that came again by RTX are counted, too. */
  packetsLost: number;
  retransmittedPacketsReceived: number;
  nackCount: number;
  pliCount: number;
  keyFramesDecoded: number;
  jitterBufferMs: number;
  /** Of the last picture decoded. */
  width: number;
  height: number;
  codec: string | undefined;
}

export interface Join {
  /** From the answer's arrival to the first picture shown. */
  firstPictureMs: number;
  /** From the POST to the answer. */
  answerMs: number;
  /** From the answer to the first picture no older than `edgeMs`; undefined when it did not come in time. */
  liveEdgeMs: number | undefined;
}

let session: Session | undefined;
let shown: Shown[] = [];
let unreadable = 0;
let heard: Heard = { beepsMs: [], rms: 0 };
const video = document.createElement("video");
video.autoplay = true;
video.playsInline = true;
document.body.append(video);

function read(): ReturnType<typeof readPicture> {
  return readPicture(video);
}

function watchFrames(): void {
  const onFrame = (_: number, { rtpTimestamp }: VideoFrameCallbackMetadata): void => {
    video.requestVideoFrameCallback(onFrame);
    const atMs = Date.now();
    const { reading, flash } = read();
    if (reading === undefined) unreadable += 1;
    else shown.push({ atMs, ageMs: clock.age(reading, atMs), source: reading.source, flash, rtpTimestamp });
  };
  video.requestVideoFrameCallback(onFrame);
}

async function listen(stream: MediaStream): Promise<void> {
  heard = await hear((sound) => sound.createMediaStreamSource(stream));
}

function open(): { peer: RTCPeerConnection; stream: MediaStream } {
  const peer = new RTCPeerConnection();
  const stream = new MediaStream();
  for (const kind of ["audio", "video"] as const) {
    const { receiver } = peer.addTransceiver(kind, { direction: "recvonly" });
    receiver.jitterBufferTarget = 0;
  }
  peer.addEventListener("track", ({ track, receiver }) => {
    receiver.jitterBufferTarget = 0;
    stream.addTrack(track);
  });
  return { peer, stream };
}

async function start(endpoint: string, token?: string, captureTimes = false): Promise<string> {
  const { peer, stream } = open();
  if (captureTimes) offerCaptureTimes(peer);
  video.srcObject = stream;
  watchFrames();
  session = await negotiate(peer, endpoint, token);
  void video.play();
  await listen(stream);
  return session.url;
}

/** As `start`, by the client library. */
async function watch(endpoint: string, token?: string): Promise<string> {
  const watching = watchByLibrary({ url: endpoint, token: token ?? null, video });
  await new Promise<void>((resolve, reject) => {
    watching.on("stream", () => resolve());
    watching.on("error", reject);
  });
  if (watching.session === null) throw new Error("there is no session");
  const { pc, resource, answeredAtMs } = watching.session;
  session = { peer: pc, url: resource, etag: null, answeredAt: answeredAtMs };
  watchFrames();
  return resource;
}

/** Opens a session of its own, waits for its first picture and for the live edge, closes it. */
async function join(endpoint: string, edgeMs: number, patienceMs: number, token?: string): Promise<Join> {
  const { peer, stream } = open();
  let first: number | undefined;
  let edge: number | undefined;
  let done: () => void = () => undefined;
  const finished = new Promise<void>((resolve) => (done = resolve));
  const onFrame = (now: number): void => {
    first ??= now;
    const { reading } = read();
    if (reading !== undefined && clock.age(reading, Date.now()) <= edgeMs) {
      edge = performance.now();
      done();
    } else {
      video.requestVideoFrameCallback(onFrame);
    }
  };
  video.srcObject = stream;
  video.requestVideoFrameCallback(onFrame);
  const postedAt = performance.now();
  const joined = await negotiate(peer, endpoint, token);
  void video.play().catch(() => undefined);
  await Promise.race([finished, new Promise((resolve) => setTimeout(resolve, patienceMs))]);
  const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
  await fetch(joined.url, { method: "DELETE", headers });
  peer.close();
  video.srcObject = null;
  if (first === undefined) throw new Error(`no picture within ${patienceMs} ms of the answer`);
  return {
    firstPictureMs: first - joined.answeredAt,
    answerMs: joined.answeredAt - postedAt,
    liveEdgeMs: edge === undefined ? undefined : edge - joined.answeredAt,
  };
}

async function report(): Promise<ViewerReport> {
  const stats: ViewerReport["stats"] = {
    framesDecoded: 0,
    framesDropped: 0,
    freezeCount: 0,
    totalFreezesSeconds: 0,
    packetsReceived: 0,
    packetsLost: 0,
    retransmittedPacketsReceived: 0,
    nackCount: 0,
    pliCount: 0,
    keyFramesDecoded: 0,
    jitterBufferMs: 0,
    width: 0,
    height: 0,
    codec: undefined,
    audioEnergy: 0,
  };
  const entries = await session?.peer.getStats();
  entries?.forEach((entry) => {
    if (entry.type !== "inbound-rtp") return;
    if (entry.kind === "audio") {
      stats.audioEnergy = entry.totalAudioEnergy ?? 0;
      return;
    }
    stats.framesDecoded = entry.framesDecoded ?? 0;
    stats.framesDropped = entry.framesDropped ?? 0;
    stats.freezeCount = entry.freezeCount ?? 0;
    stats.totalFreezesSeconds = entry.totalFreezesDuration ?? 0;
    stats.packetsReceived = entry.packetsReceived ?? 0;
    stats.packetsLost = entry.packetsLost ?? 0;
    stats.retransmittedPacketsReceived = entry.retransmittedPacketsReceived ?? 0;
    stats.nackCount = entry.nackCount ?? 0;
    stats.pliCount = entry.pliCount ?? 0;
    stats.keyFramesDecoded = entry.keyFramesDecoded ?? 0;
    stats.jitterBufferMs = (1000 * (entry.jitterBufferDelay ?? 0)) / Math.max(1, entry.jitterBufferEmittedCount ?? 0);
    stats.width = entry.frameWidth ?? 0;
    stats.height = entry.frameHeight ?? 0;
    stats.codec = entries.get(entry.codecId)?.mimeType;
  });
  const dtls = session?.peer.getReceivers()[0]?.transport?.state;
  const state = session?.peer.connectionState ?? "new";
  return { state, dtls, shown, unreadable, ...heard, carrier: entries && carrier(entries), stats };
}

/** From the NTP epoch, which `captureTimestamp` counts from, to 1970. */
const NTP_TO_UNIX_MS = 2_208_988_800_000;

/** webrtc-extensions, "RTCRtpContributingSource extensions". */
interface TimedSource extends RTCRtpSynchronizationSource {
  captureTimestamp?: number;
  senderCaptureTimeOffset?: number;
}

function captures(): Capture[] {
  const receivers = session?.peer.getReceivers() ?? [];
  return receivers.flatMap((receiver) =>
    receiver.getSynchronizationSources().map((source: TimedSource) => ({
      kind: receiver.track.kind,
      capturedAtMs: source.captureTimestamp === undefined ? undefined : source.captureTimestamp - NTP_TO_UNIX_MS,
      aheadMs: source.senderCaptureTimeOffset,
      rtpTimestamp: source.rtpTimestamp,
    })),
  );
}

/** Forgets what was shown and heard so far; the session goes on. */
function reset(): void {
  shown = [];
  heard.beepsMs.length = 0;
  unreadable = 0;
}

/** How near the next pictures are to what was drawn (see `psnrOfClock`), in dB; 0 for one that cannot be read. */
async function fidelity(pictures: number): Promise<number[]> {
  const ratios: number[] = [];
  while (ratios.length < pictures) {
    await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
    ratios.push(psnrOfClock(video) ?? 0);
  }
  return ratios;
}

/** Frames shown so far by this source. */
function framesOf(source: number): number {
  return shown.filter((frame) => frame.source === source).length;
}

/** Restarts ICE; the media goes on. Gives the new ICE session's name. */
async function restartIce(token?: string): Promise<string> {
  if (session === undefined) throw new Error("there is no session");
  return restart(session, token);
}

async function side(): Promise<OwnSide | undefined> {
  return session && ownSide(session.peer);
}

async function stop(token?: string): Promise<number> {
  if (session === undefined) return 0;
  const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch(session.url, { method: "DELETE", headers });
  session.peer.close();
  return response.status;
}

export const viewer = { start, watch, join, report, captures, fidelity, reset, framesOf, restartIce, side, stop };
declare global {
  interface Window {
    viewer: typeof viewer;
  }
}
window.viewer = viewer;
