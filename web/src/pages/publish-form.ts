/** The publisher's form: what is to be sent. Its controls in, requests to the capture and to the library out. */

import { sendableCodecs, type PublishOptions, type VideoCodec } from "@sluice-media/client";
import type { CaptureRequest, SourceKind } from "../media/capture";
import { byId, h } from "../ui/dom";

/** Absent where the page is neither https nor on localhost. */
const devices = (navigator as { mediaDevices?: MediaDevices }).mediaDevices;

export class PublishForm {
  private readonly form = byId<HTMLFormElement>("settings");
  private readonly camera = byId<HTMLSelectElement>("camera");
  private readonly microphone = byId<HTMLSelectElement>("microphone");
  private readonly voice = byId<HTMLInputElement>("voice");
  private readonly resolution = byId<HTMLSelectElement>("resolution");
  private readonly fps = byId<HTMLSelectElement>("fps");
  private readonly codec = byId<HTMLSelectElement>("codec");
  private readonly several = byId<HTMLInputElement>("simulcast");
  private readonly bitrate = byId<HTMLSelectElement>("bitrate");

  /** `onBitrate`: the one control that works while live, in kb/s. */
  constructor(onBitrate: (kbps: number) => void) {
    this.codec.replaceChildren(...codecs().map((codec) => h("option", { value: codec }, codec)));
    this.preset(new URLSearchParams(location.search));
    this.showSource();
    void this.listDevices();
    devices?.addEventListener("devicechange", () => void this.listDevices());
    this.form.addEventListener("change", () => this.showSource());
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.bitrate.addEventListener("change", () => onBitrate(Number(this.bitrate.value)));
  }

  /** What is live cannot be changed, but for its bitrate. */
  lock(locked: boolean): void {
    for (const control of this.form.querySelectorAll<HTMLInputElement | HTMLSelectElement>("input, select")) {
      if (control !== this.bitrate) control.disabled = locked;
    }
  }

  request(): CaptureRequest {
    const device = (select: HTMLSelectElement): string | null => (select.value === "none" ? null : select.value);
    return {
      source: this.source(),
      camera: device(this.camera),
      microphone: device(this.microphone),
      height: Number(this.resolution.value),
      fps: Number(this.fps.value),
      cleanVoice: this.voice.checked,
    };
  }

  encoding(): Omit<PublishOptions, "url" | "media"> {
    return {
      codec: this.codec.value as VideoCodec,
      videoKbps: Number(this.bitrate.value),
      maxHeight: Number(this.resolution.value),
      maxFps: Number(this.fps.value),
      degradation: this.source() === "screen" ? "maintain-resolution" : "maintain-framerate",
      simulcast: this.several.checked,
    };
  }

  /** Names are known only after the first permission; before it there is one nameless device of each kind. */
  async listDevices(): Promise<void> {
    const all = devices ? await devices.enumerateDevices().catch(() => []) : [];
    for (const [select, kind, word] of [
      [this.camera, "videoinput", "Camera"],
      [this.microphone, "audioinput", "Microphone"],
    ] as const) {
      const chosen = select.value;
      const options = all
        .filter((device) => device.kind === kind && device.deviceId !== "" && device.deviceId !== "default")
        .map((device, index) => h("option", { value: device.deviceId }, device.label || `${word} ${index + 1}`));
      select.replaceChildren(
        h("option", { value: "" }, "The browser’s choice"),
        ...options,
        h("option", { value: "none" }, "None"),
      );
      select.value = chosen;
      if (select.selectedIndex < 0) select.value = "";
    }
  }

  private source(): SourceKind {
    // Not by FormData, which leaves disabled controls out: they are disabled while live.
    return (this.form.querySelector<HTMLInputElement>("input[name=source]:checked")?.value ?? "camera") as SourceKind;
  }

  private showSource(): void {
    const chosen = this.source();
    for (const part of document.querySelectorAll<HTMLElement>("[data-for]")) part.hidden = part.dataset["for"] !== chosen;
  }

  /** `?source=test&codec=VP8&bitrate=1000&resolution=360&fps=30&simulcast=1` preset the form; what does not exist is ignored. */
  private preset(wanted: URLSearchParams): void {
    for (const control of this.form.querySelectorAll<HTMLSelectElement>("select")) {
      const value = wanted.get(control.id);
      if (value !== null && Array.from(control.options).some((option) => option.value === value)) control.value = value;
    }
    const radio = this.form.querySelector<HTMLInputElement>(`input[value="${CSS.escape(wanted.get("source") ?? "")}"]`);
    if (radio) radio.checked = true;
    this.several.checked = wanted.get("simulcast") === "1";
  }
}

/** Where a browser does not say what it sends, all that every browser does. */
function codecs(): readonly VideoCodec[] {
  const sendable = sendableCodecs();
  return sendable.length > 0 ? sendable : ["H264", "VP8"];
}
