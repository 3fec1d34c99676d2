/** The player's buttons and keys: what people do in, the video element and the page's callbacks out. */

import { byId } from "../ui/dom";

export interface ControlsOptions {
  readonly player: HTMLElement;
  readonly video: HTMLVideoElement;
  isPlaying(): boolean;
  onMuted(muted: boolean): void;
  /** The panel of figures was opened or closed. */
  onPanel(): void;
  onRetry(): void;
}

/** The bar and the pointer leave the picture alone after this long without a move. */
const QUIET_MS = 3_000;

/** Wires all of them, for as long as the page lives. */
export function wireControls({ player, video, isPlaying, onMuted, onPanel, onRetry }: ControlsOptions): void {
  const mute = byId("mute");
  let quietTimer: ReturnType<typeof setTimeout> | undefined;

  const awake = (): void => {
    player.classList.remove("quiet");
    clearTimeout(quietTimer);
    quietTimer = setTimeout(() => player.classList.toggle("quiet", isPlaying()), QUIET_MS);
  };
  const showMuted = (): void => {
    mute.setAttribute("aria-pressed", String(video.muted));
    onMuted(video.muted);
  };
  const setMuted = (muted: boolean): void => {
    video.muted = muted;
    showMuted();
    if (!muted && video.paused) video.play().catch(() => undefined);
  };
  const togglePanel = (): void => {
    const panel = byId("stats");
    panel.hidden = !panel.hidden;
    byId("info").setAttribute("aria-pressed", String(!panel.hidden));
    onPanel();
  };
  const toggleFullscreen = async (): Promise<void> => {
    if (document.fullscreenElement) return document.exitFullscreen();
    // An iPhone makes only the video itself full screen, by a method of its own.
    const phone = video as HTMLVideoElement & { webkitEnterFullscreen?: () => void };
    if (player.requestFullscreen) await player.requestFullscreen().catch(() => undefined);
    else phone.webkitEnterFullscreen?.();
  };
  const togglePictureInPicture = async (): Promise<void> => {
    const action = document.pictureInPictureElement ? document.exitPictureInPicture() : video.requestPictureInPicture();
    await action.catch(() => undefined);
  };

  byId("unmute").addEventListener("click", () => {
    setMuted(false);
    mute.focus({ preventScroll: true });
  });
  mute.addEventListener("click", () => setMuted(!video.muted));
  byId<HTMLInputElement>("volume").addEventListener("input", ({ target }) => {
    video.volume = Number((target as HTMLInputElement).value);
    if (video.muted && video.volume > 0) setMuted(false);
  });
  // The browser may allow to play muted only; the library then mutes it.
  video.addEventListener("volumechange", showMuted);
  video.addEventListener("dblclick", () => void toggleFullscreen());
  byId("info").addEventListener("click", togglePanel);
  byId("fullscreen").addEventListener("click", () => void toggleFullscreen());
  byId("retry").addEventListener("click", onRetry);
  const pip = byId("pip");
  pip.hidden = !document.pictureInPictureEnabled;
  pip.addEventListener("click", () => void togglePictureInPicture());
  document.addEventListener("fullscreenchange", () => {
    byId("fullscreen").setAttribute("aria-pressed", String(document.fullscreenElement !== null));
  });

  const keys: Readonly<Record<string, () => void>> = {
    m: () => setMuted(!video.muted),
    f: () => void toggleFullscreen(),
    i: togglePanel,
    p: () => void togglePictureInPicture(),
  };
  document.addEventListener("keydown", (event) => {
    awake();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement) return;
    keys[event.key.toLowerCase()]?.();
  });
  for (const type of ["pointermove", "pointerdown", "focusin"]) document.addEventListener(type, awake);
  awake();
}
