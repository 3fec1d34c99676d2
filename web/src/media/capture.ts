/** Camera, microphone and screen, with words for what can go wrong. */

import { startTestPattern } from "./test-pattern";

export type SourceKind = "camera" | "screen" | "test";

export interface CaptureRequest {
  readonly source: SourceKind;
  /** Device ids; empty: the browser's choice; `null`: none. */
  readonly camera: string | null;
  readonly microphone: string | null;
  readonly height: number;
  readonly fps: number;
  /** Echo cancellation, noise suppression and gain control: good for a voice, bad for music. */
  readonly cleanVoice: boolean;
}

export interface Capture {
  readonly media: MediaStream;
  stop(): void;
}

/** 16:9, even, as encoders want it. */
export function widthFor(height: number): number {
  return Math.round((height * 16) / 9 / 2) * 2;
}

export async function capture(request: CaptureRequest): Promise<Capture> {
  const { source, height, fps } = request;
  if (source === "test") return startTestPattern(widthFor(height), height, fps);
  // Absent where the page is neither https nor on localhost.
  const devices = (navigator as { mediaDevices?: MediaDevices }).mediaDevices;
  if (!devices) {
    throw new Error(
      "Browsers give camera, microphone and screen to pages on https or localhost only. The test pattern works here.",
    );
  }
  const media = source === "screen" ? await captureScreen(devices, request) : await captureCamera(devices, request);
  const [video] = media.getVideoTracks();
  if (video) video.contentHint = source === "screen" ? "detail" : "motion";
  return { media, stop: () => media.getTracks().forEach((track) => track.stop()) };
}

function captureScreen(devices: MediaDevices, { fps }: CaptureRequest): Promise<MediaStream> {
  return devices.getDisplayMedia({
    video: { frameRate: { ideal: fps } },
    // Sound of a tab or the system is no voice.
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
}

function captureCamera(devices: MediaDevices, request: CaptureRequest): Promise<MediaStream> {
  const { camera, microphone, height, fps, cleanVoice } = request;
  const chosen = (id: string): { deviceId?: ConstrainDOMString } => (id === "" ? {} : { deviceId: { exact: id } });
  return devices.getUserMedia({
    video: camera !== null && {
      ...chosen(camera),
      width: { ideal: widthFor(height) },
      height: { ideal: height },
      frameRate: { ideal: fps },
    },
    audio: microphone !== null && {
      ...chosen(microphone),
      channelCount: { ideal: cleanVoice ? 1 : 2 },
      echoCancellation: cleanVoice,
      noiseSuppression: cleanVoice,
      autoGainControl: cleanVoice,
    },
  });
}

/** What the person can do about a refusal by browser or system. */
export function captureFault(thrown: unknown): string {
  if (!(thrown instanceof DOMException)) return thrown instanceof Error ? thrown.message : String(thrown);
  switch (thrown.name) {
    case "NotAllowedError":
      return "The browser was not allowed to capture. Allow it in the address bar, and try again.";
    case "NotFoundError":
      return "There is no such camera or microphone. Connect one, choose “None” for the missing one, or send the test pattern.";
    case "NotReadableError":
      return "The device is in use by another program, or the system does not let the browser have it.";
    case "OverconstrainedError":
      return "The chosen device is gone or cannot do this. Choose another one.";
    default:
      return thrown.message;
  }
}
