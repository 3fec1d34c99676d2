// The publishing page: draws the picture clock, hums and beeps, sends both by WHIP.

import * as clock from "../clock.ts";
import { carrier, negotiate, offerCaptureTimes, ownSide, restart, type Carrier, type OwnSide, type Session } from "./http.ts";

export interface PublisherOptions {
  endpoint: string;
  token?: string;
  /** "H264", "VP8", "VP9", "AV1"; the browser's own choice when absent. */
  codec?: string;
  source: number;
  /** Simulcast layers, from the first on; one encoding without a name when absent. */
  layers?: { rid: string; scaleResolutionDownBy: number; maxBitrate: number }[];
  /** How much larger the picture is than usual; 1 when absent. */
  scale?: number;
  /** With grain, so that a picture costs about what a camera's does: several packets. */
  busy?: boolean;
  /** Sends what the browser's microphone hears instead of the hum and the beeps. */
  microphone?: boolean;
  /** Sound is negotiated, and sent from `beginSound` on only. */
  soundLater?: boolean;
  /** Says with its packets when they were captured. */
  captureTimes?: boolean;
}

export interface PublisherReport {
  state: RTCPeerConnectionState;
  dtls: RTCDtlsTransportState | undefined;
  connectedAtMs: number | undefined;
  framesEncoded: number;
  codec: string | undefined;
  pliCount: number;
  nackCount: number;
  packetsSent: number;
  retransmittedPacketsSent: number;
  carrier: Carrier | undefined;
}

let session: Session | undefined;
let connectedAtMs: number | undefined;
let sound: AudioContext | undefined;
let beginSound: () => Promise<void> = () => Promise.reject(new Error("there is no session"));

/** Noise twice as large as the picture, so that each frame can begin elsewhere in it. */
function grain(): OffscreenCanvas {
  const canvas = new OffscreenCanvas(clock.WIDTH * 2, clock.HEIGHT * 2);
  const noise = new ImageData(canvas.width, canvas.height);
  new Uint32Array(noise.data.buffer).forEach((_, at, pixels) => {
    const luma = 110 + ((Math.imul(at + 1, 2_654_435_761) >>> 27) & 15);
    pixels[at] = 0xff00_0000 | (luma * 0x01_0101);
  });
  canvas.getContext("2d")?.putImageData(noise, 0, 0);
  return canvas;
}

function drawLoop(canvas: HTMLCanvasElement, shutter: Pick<CanvasCaptureMediaStreamTrack, "requestFrame">, options: PublisherOptions): void {
  const { source } = options;
  const noise = options.busy === true ? grain() : undefined;
  const context = canvas.getContext("2d", { alpha: false });
  if (context === null) throw new Error("no canvas");
  let due = performance.now();
  let frame = 0;
  context.scale(options.scale ?? 1, options.scale ?? 1);
  const draw = (): void => {
    requestAnimationFrame(draw);
    const now = performance.now();
    // Half a display frame early counts as due, or a 60 Hz display would give 20 frames a second.
    if (now < due - 8) return;
    due = Math.max(due + 1000 / clock.FPS, now - 1000 / clock.FPS);
    frame += 1;
    context.fillStyle = "#404850";
    context.fillRect(0, clock.ROWS * clock.CELL_HEIGHT, clock.WIDTH, clock.HEIGHT);
    if (noise !== undefined) {
      const from = { x: (frame * 97) % clock.WIDTH, y: (frame * 61) % clock.HEIGHT };
      const [top, height] = [280, clock.HEIGHT - 280];
      context.drawImage(noise, from.x, from.y, clock.WIDTH, height, 0, top, clock.WIDTH, height);
    }
    for (let i = 0; i < 6; i += 1) {
      context.fillStyle = `hsl(${(i * 60 + frame) % 360} 60% 50%)`;
      context.fillRect(180 + ((frame * (i + 2) + i * 70) % 440), 180 + i * 28, 24, 24);
    }
    const ms = Date.now();
    context.fillStyle = clock.isFlashing(ms) ? "#fff" : "#000";
    context.fillRect(clock.FLASH.x, clock.FLASH.y, clock.FLASH.width, clock.FLASH.height);
    clock.encode(ms, source).forEach((white, cell) => {
      context.fillStyle = white ? "#fff" : "#000";
      const x = (cell % clock.COLUMNS) * clock.CELL_WIDTH;
      const y = Math.floor(cell / clock.COLUMNS) * clock.CELL_HEIGHT;
      context.fillRect(x, y, clock.CELL_WIDTH, clock.CELL_HEIGHT);
    });
    shutter.requestFrame();
  };
  draw();
}

async function microphone(): Promise<MediaStreamTrack> {
  const [track] = (await navigator.mediaDevices.getUserMedia({ audio: true })).getAudioTracks();
  if (track === undefined) throw new Error("no microphone");
  return track;
}

async function hum(): Promise<MediaStreamTrack> {
  sound = new AudioContext({ sampleRate: 48000, latencyHint: "interactive" });
  await sound.resume();
  const out = sound.createMediaStreamDestination();
  const tone = (hz: number, gain: number): AudioParam => {
    const oscillator = new OscillatorNode(sound as AudioContext, { frequency: hz });
    const volume = new GainNode(sound as AudioContext, { gain });
    oscillator.connect(volume).connect(out);
    oscillator.start();
    return volume.gain;
  };
  tone(clock.HUM_HZ, clock.HUM_GAIN);
  const beep = tone(clock.BEEP_HZ, 0);
  let nextMs = 0;
  setInterval(() => {
    const nowMs = Date.now();
    const startMs = Math.ceil(nowMs / 1000) * 1000;
    if (startMs === nextMs || startMs - nowMs > 500 || sound === undefined) return;
    nextMs = startMs;
    const at = sound.currentTime + (startMs - nowMs) / 1000;
    beep.setValueAtTime(clock.BEEP_GAIN, at);
    beep.setValueAtTime(0, at + clock.FLASH_MS / 1000);
  }, 100);
  return out.stream.getAudioTracks()[0] as MediaStreamTrack;
}

async function start(options: PublisherOptions): Promise<void> {
  const canvas = document.createElement("canvas");
  canvas.width = clock.WIDTH * (options.scale ?? 1);
  canvas.height = clock.HEIGHT * (options.scale ?? 1);
  document.body.append(canvas);
  const captured = canvas.captureStream(0);
  const video = captured.getVideoTracks()[0] as CanvasCaptureMediaStreamTrack;
  // Firefox has requestFrame on the stream, as an older draft had it.
  const shutter = "requestFrame" in video ? video : (captured as unknown as CanvasCaptureMediaStreamTrack);
  drawLoop(canvas, shutter, options);
  const audio = options.microphone === true ? await microphone() : await hum();

  const peer = new RTCPeerConnection();
  peer.addEventListener("connectionstatechange", () => {
    if (peer.connectionState === "connected") connectedAtMs ??= Date.now();
  });
  const stream = new MediaStream([audio, video]);
  const { sender: soundSender } = peer.addTransceiver(options.soundLater === true ? "audio" : audio, { direction: "sendonly", streams: [stream] });
  beginSound = () => soundSender.replaceTrack(audio);
  const sender = peer.addTransceiver(video, {
    direction: "sendonly",
    streams: [stream],
    sendEncodings: (options.layers ?? [{ maxBitrate: 2_000_000 }]).map((layer) => ({ ...layer, maxFramerate: clock.FPS })),
  });
  if (options.codec !== undefined) {
    const wanted = `video/${options.codec}`.toLowerCase();
    const codecs = RTCRtpSender.getCapabilities("video")?.codecs ?? [];
    const chosen = codecs.filter((codec) => codec.mimeType.toLowerCase() === wanted);
    const repair = codecs.filter((codec) => /\/(rtx|red|ulpfec)$/i.test(codec.mimeType));
    if (chosen.length === 0) throw new Error(`this browser cannot send ${options.codec}`);
    sender.setCodecPreferences([...chosen, ...repair]);
  }
  if (options.captureTimes === true) offerCaptureTimes(peer);
  session = await negotiate(peer, options.endpoint, options.token);
}

async function report(): Promise<PublisherReport> {
  const found: PublisherReport = {
    state: session?.peer.connectionState ?? "new",
    dtls: session?.peer.getSenders()[0]?.transport?.state,
    connectedAtMs,
    framesEncoded: 0,
    codec: undefined,
    pliCount: 0,
    nackCount: 0,
    packetsSent: 0,
    retransmittedPacketsSent: 0,
    carrier: undefined,
  };
  const stats = await session?.peer.getStats();
  found.carrier = stats && carrier(stats);
  stats?.forEach((entry) => {
    if (entry.type === "outbound-rtp" && entry.kind === "video") {
      // Of all layers together.
      found.framesEncoded += entry.framesEncoded;
      found.pliCount += entry.pliCount;
      found.nackCount += entry.nackCount;
      found.packetsSent += entry.packetsSent;
      found.retransmittedPacketsSent += entry.retransmittedPacketsSent;
      found.codec = stats.get(entry.codecId)?.mimeType;
    }
  });
  return found;
}

/** Stops or resumes a simulcast layer. */
async function setActive(rid: string, active: boolean): Promise<void> {
  const sender = session?.peer.getSenders().find(({ track }) => track?.kind === "video");
  const parameters = sender?.getParameters();
  if (sender === undefined || parameters === undefined) throw new Error("there is no session");
  for (const encoding of parameters.encodings) if (encoding.rid === rid) encoding.active = active;
  await sender.setParameters(parameters);
}

/** Restarts ICE; the media goes on. Gives the new ICE session's name. */
async function restartIce(token?: string): Promise<string> {
  if (session === undefined) throw new Error("there is no session");
  return restart(session, token);
}

async function side(): Promise<OwnSide | undefined> {
  return session && ownSide(session.peer);
}

/** Ends the session as a well-behaved client does. */
async function stop(token?: string): Promise<number> {
  if (session === undefined) return 0;
  const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch(session.url, { method: "DELETE", headers });
  session.peer.close();
  await sound?.close();
  return response.status;
}

export const publisher = { start, report, beginSound: () => beginSound(), setActive, restartIce, side, stop };
declare global {
  interface Window {
    publisher: typeof publisher;
  }
}
window.publisher = publisher;
