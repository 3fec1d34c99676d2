// The picture clock and the beeps, as a page that plays them reads and hears them.

import * as clock from "../clock.ts";

const SCALE = 4;
const scratch = new OffscreenCanvas(clock.COLUMNS * SCALE, clock.ROWS * SCALE + 1);
const pixels = scratch.getContext("2d", { willReadFrequently: true, alpha: false });

/** What the clock says in the picture that is shown, and whether its block flashes. */
export function readPicture(video: HTMLVideoElement): { reading: clock.Reading | undefined; flash: boolean } {
  if (pixels === null) throw new Error("no canvas");
  const { videoWidth: width, videoHeight: height } = video;
  const top = (clock.ROWS * clock.CELL_HEIGHT * height) / clock.HEIGHT;
  const ratio = { x: width / clock.WIDTH, y: height / clock.HEIGHT };
  const { FLASH } = clock;
  pixels.drawImage(video, 0, 0, width, top, 0, 0, clock.COLUMNS * SCALE, clock.ROWS * SCALE);
  const row = clock.ROWS * SCALE;
  pixels.drawImage(video, (FLASH.x + 40) * ratio.x, (FLASH.y + 40) * ratio.y, 80 * ratio.x, 80 * ratio.y, 0, row, 1, 1);
  const { data, width: stride } = pixels.getImageData(0, 0, scratch.width, scratch.height);
  const white = (x: number, y: number): boolean => (data[(y * stride + x) * 4] ?? 0) > 127;
  const cells: boolean[] = [];
  for (let cell = 0; cell < clock.COLUMNS * clock.ROWS; cell += 1) {
    const x = (cell % clock.COLUMNS) * SCALE + SCALE / 2;
    const y = Math.floor(cell / clock.COLUMNS) * SCALE + SCALE / 2;
    cells.push(white(x, y));
  }
  return { reading: clock.decode(cells), flash: white(0, row) };
}

const whole = new OffscreenCanvas(clock.WIDTH, clock.ROWS * clock.CELL_HEIGHT);
const wholePixels = whole.getContext("2d", { willReadFrequently: true, alpha: false });

/** How near the part of the picture with the clock is to what was drawn: its peak signal-to-noise ratio, in dB. Undefined where it cannot be read. */
export function psnrOfClock(video: HTMLVideoElement): number | undefined {
  if (wholePixels === null) return undefined;
  const { width, height } = whole;
  wholePixels.drawImage(video, 0, 0, video.videoWidth, (video.videoHeight * height) / clock.HEIGHT, 0, 0, width, height);
  const { data } = wholePixels.getImageData(0, 0, width, height);
  // Read from what is compared: drawn once more, it could be the next picture.
  const middle = (cell: number): number => {
    const x = Math.floor(((cell % clock.COLUMNS) + 0.5) * clock.CELL_WIDTH);
    const y = Math.floor((Math.floor(cell / clock.COLUMNS) + 0.5) * clock.CELL_HEIGHT);
    return data[(y * width + x) * 4 + 1] ?? 0;
  };
  const reading = clock.decode(Array.from({ length: clock.COLUMNS * clock.ROWS }, (_, cell) => middle(cell) > 127));
  if (reading === undefined) return undefined;
  const drawn = clock.encode(reading.ms, reading.source);
  let squares = 0;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const cell = Math.floor(y / clock.CELL_HEIGHT) * clock.COLUMNS + Math.floor(x / clock.CELL_WIDTH);
      const difference = (data[(y * width + x) * 4 + 1] ?? 0) - (drawn[cell] === true ? 255 : 0);
      squares += difference * difference;
    }
  }
  return 10 * Math.log10((255 * 255 * width * height) / Math.max(squares, 1));
}

export interface Heard {
  beepsMs: number[];
  rms: number;
}

/** Listens to what `source` makes in a context of 48 kHz, for as long as the page is open. */
export async function hear(source: (sound: AudioContext) => AudioNode): Promise<Heard> {
  const heard: Heard = { beepsMs: [], rms: 0 };
  const sound = new AudioContext({ sampleRate: 48000 });
  // Without a sound card Firefox starts none, ever; there the statistics have to do.
  await Promise.race([sound.resume(), new Promise((resolve) => setTimeout(resolve, 1000))]);
  if (sound.state !== "running") return heard;
  await sound.audioWorklet.addModule("/listener.js");
  const listener = new AudioWorkletNode(sound, "listener");
  listener.port.onmessage = ({ data }: MessageEvent<{ onsetMs?: number; rms?: number }>) => {
    if (data.onsetMs !== undefined) heard.beepsMs.push(data.onsetMs);
    if (data.rms !== undefined) heard.rms = data.rms;
  };
  // Silent output keeps the graph pulled.
  const mute = new GainNode(sound, { gain: 0 });
  source(sound).connect(listener).connect(mute).connect(sound.destination);
  return heard;
}
