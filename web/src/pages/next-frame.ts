/** The next picture of a video, also in browsers that do not tell (Firefox before 132). */

/** Calls back once. Times are `performance.now()` in ms: of the rendering that the picture went out with, and when it is to be seen. */
export function nextFrame(video: HTMLVideoElement, callback: (nowMs: number, shownAtMs: number) => void): void {
  if (typeof video.requestVideoFrameCallback === "function") {
    video.requestVideoFrameCallback((nowMs, { expectedDisplayTime }) => callback(nowMs, expectedDisplayTime));
    return;
  }
  const shown = (): number => video.getVideoPlaybackQuality().totalVideoFrames;
  const stream = video.srcObject;
  const before = shown();
  const look = (nowMs: number): void => {
    if (video.srcObject !== stream || shown() !== before) callback(nowMs, nowMs);
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}
