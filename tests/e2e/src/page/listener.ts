// Runs in the audio thread: says when a beep begins, and how loud it is on the whole.

declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: unknown): void;

/** Half of the beep's level; the hum stays far below. */
const ONSET_LEVEL = 0.3;
/** Silence that must lie between two beeps, in quanta of 128 samples: 0.3 s. */
const QUIET_QUANTA = 112;

class Listener extends AudioWorkletProcessor {
  #quiet = 0;
  #squares = 0;
  #samples = 0;

  process(inputs: Float32Array[][]): boolean {
    const channel = inputs[0]?.[0];
    if (channel === undefined) return true;
    let peak = 0;
    for (const sample of channel) {
      peak = Math.max(peak, Math.abs(sample));
      this.#squares += sample * sample;
    }
    this.#samples += channel.length;
    if (peak > ONSET_LEVEL) {
      if (this.#quiet >= QUIET_QUANTA) this.port.postMessage({ onsetMs: Date.now() });
      this.#quiet = 0;
    } else {
      this.#quiet += 1;
    }
    if (this.#samples >= 48_000) {
      this.port.postMessage({ rms: Math.sqrt(this.#squares / this.#samples) });
      this.#squares = 0;
      this.#samples = 0;
    }
    return true;
  }
}

registerProcessor("listener", Listener);
