/** Pictures of a video element: the first one of a stream, and the last one before another source is shown. */

/** How long a browser may take to make a picture of a picture; the source changes then all the same. */
const SNAPSHOT_PATIENCE_MS = 250;

/**
 * Makes the present picture what the element shows while it has none: its poster, as it is called for the time before the first one.
 * Resolves with the way to take it away again. Where there is no picture, or the page may not read it, nothing happens.
 */
export async function holdPicture(video: HTMLVideoElement): Promise<() => void> {
  const picture = await snapshot(video).catch(() => null);
  if (picture === null) return () => undefined;
  const before = video.getAttribute("poster");
  video.poster = picture;
  await painted();
  return () => {
    URL.revokeObjectURL(picture);
    if (video.getAttribute("poster") !== picture) return;
    if (before === null) video.removeAttribute("poster");
    else video.setAttribute("poster", before);
  };
}

/** The URL of the present picture; `null` when there is none. */
async function snapshot(video: HTMLVideoElement): Promise<string | null> {
  const { videoWidth: width, videoHeight: height } = video;
  if (width === 0 || height === 0 || typeof document === "undefined") return null;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d")?.drawImage(video, 0, 0);
  const made = new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
  const late = new Promise<null>((resolve) => setTimeout(resolve, SNAPSHOT_PATIENCE_MS, null));
  const blob = await Promise.race([made, late]);
  if (blob === null) return null;
  const url = URL.createObjectURL(blob);
  const image = new Image();
  image.src = url;
  // Decoded now, so that the element need not wait for it.
  await Promise.race([image.decode().catch(() => undefined), late]);
  return url;
}

/** Two renderings later: by then the element has its poster. A hidden page renders nothing, and nobody looks. */
function painted(): Promise<void> {
  if (document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    requestAnimationFrame(() => requestAnimationFrame(() => resolve()));
    setTimeout(resolve, SNAPSHOT_PATIENCE_MS);
  });
}

/** Resolves when the stream has a picture, or sound where it has no pictures; looked at apart from what is shown. Rejects when aborted. */
export function firstPicture(stream: MediaStream, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const apart = document.createElement("video");
    const leave = (): void => {
      apart.srcObject = null;
      reject(signal.reason as Error);
    };
    apart.addEventListener(
      "loadeddata",
      () => {
        signal.removeEventListener("abort", leave);
        apart.srcObject = null;
        resolve();
      },
      { once: true },
    );
    signal.addEventListener("abort", leave, { once: true });
    apart.muted = true;
    apart.playsInline = true;
    apart.srcObject = stream;
    apart.play().catch(() => undefined);
  });
}

/** Shows the stream, and plays it: muted where the browser allows no other. Resolves when it shows something. */
export function show(video: HTMLVideoElement, stream: MediaStream): Promise<void> {
  video.srcObject = stream;
  video.playsInline = true;
  video.play().catch((thrown: unknown) => {
    // A new session interrupts the old one's play(); only a refusal matters, and muted play is refused by few.
    if (!(thrown instanceof DOMException) || thrown.name !== "NotAllowedError" || video.muted) return;
    video.muted = true;
    video.play().catch(() => undefined);
  });
  return new Promise((resolve) => video.addEventListener("loadeddata", () => resolve(), { once: true }));
}
