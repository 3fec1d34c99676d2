/**
 * `RTCPeerConnection.getStats()` (W3C webrtc-stats), read at intervals, as the few figures that people ask for.
 *
 * Counters become rates between two readings. A figure that the browser does not give is `null`, never 0.
 */

/** What is used of an `RTCStats` dictionary; browsers differ in what they fill in. */
type Entry = Readonly<Record<string, unknown>> & { readonly id: string; readonly type: string };

/** As much of `RTCStatsReport` as is needed, so that tests can write one. */
export interface StatsReport {
  // `any`, as the browser's own type has it: each entry is looked at field by field.
  forEach(callback: (entry: any) => void): void;
}

export interface ViewerStats {
  readonly codec: string | null;
  readonly width: number | null;
  readonly height: number | null;
  readonly fps: number | null;
  readonly kbps: number | null;
  /** Of the packets expected since the last reading, video and audio together, after retransmission. */
  readonly lossPercent: number | null;
  readonly packetsLost: number;
  readonly framesDecoded: number;
  readonly framesDropped: number;
  /** Since the session began, as the browser counts them. */
  readonly freezes: number;
  readonly freezeSeconds: number;
  readonly rttMs: number | null;
  /** Mean time a picture waited for its packets and its turn, since the last reading. */
  readonly jitterBufferMs: number | null;
  readonly decodeMs: number | null;
  /**
   * Estimate of server to screen: half the round trip, plus the mean time from a picture's first packet to its decoded
   * picture (`totalProcessingDelay`: jitter buffer and decoder). Not in it: publisher to server, and the display's own.
   */
  readonly latencyMs: number | null;
  readonly audioCodec: string | null;
  /** 0 to 1; what the last audio was like. */
  readonly audioLevel: number | null;
  /** Sum over time of squared level x seconds: rises whenever something is heard. */
  readonly audioEnergy: number | null;
  /** Of video, toward the server. */
  readonly plisSent: number;
  readonly nacksSent: number;
}

export interface PublisherStats {
  readonly codec: string | null;
  readonly audioCodec: string | null;
  readonly width: number | null;
  readonly height: number | null;
  readonly fps: number | null;
  /** Of all sizes together; the figures of pictures are of the largest that is sent. */
  readonly videoKbps: number | null;
  readonly audioKbps: number | null;
  /** 0 to 1; of the sound that goes in. */
  readonly audioLevel: number | null;
  readonly rttMs: number | null;
  /** As the server reports it, for the latest interval. */
  readonly lossPercent: number | null;
  /** What congestion control thinks the network takes. */
  readonly availableKbps: number | null;
  /** What holds the encoder back: `none`, `cpu`, `bandwidth`, `other`. */
  readonly limitedBy: string | null;
  readonly encoder: string | null;
  /** Mean time to encode a picture since the last reading. */
  readonly encodeMs: number | null;
  readonly framesSent: number;
  readonly keyframes: number;
  readonly plisReceived: number;
  readonly nacksReceived: number;
}

function number(entry: Entry | undefined, key: string): number | null {
  const value = entry?.[key];
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function text(entry: Entry | undefined, key: string): string | null {
  const value = entry?.[key];
  return typeof value === "string" && value !== "" ? value : null;
}

class Reading {
  private readonly entries: Entry[] = [];

  constructor(report: StatsReport) {
    report.forEach((entry: Entry) => this.entries.push(entry));
  }

  find(type: string, kind?: "audio" | "video"): Entry | undefined {
    return this.entries.find((entry) => entry.type === type && (kind === undefined || entry["kind"] === kind));
  }

  /** Of simulcast, the largest picture that is sent first. */
  sent(): Entry[] {
    const area = (entry: Entry): number => (number(entry, "frameWidth") ?? 0) * (number(entry, "frameHeight") ?? 0);
    return this.entries
      .filter((entry) => entry.type === "outbound-rtp" && entry["kind"] === "video")
      .sort((one, other) => area(other) - area(one));
  }

  /** `H264`, `opus`; RFC 6381 names are nobody's daily words. */
  codecOf(entry: Entry | undefined): string | null {
    const codec = this.entries.find(({ id }) => id === entry?.["codecId"]);
    return text(codec, "mimeType")?.split("/")[1] ?? null;
  }

  /** The candidate pair in use: named by the transport, or (Firefox) the nominated one. */
  pair(): Entry | undefined {
    const selected = this.find("transport")?.["selectedCandidatePairId"];
    const pairs = this.entries.filter(({ type }) => type === "candidate-pair");
    return (
      pairs.find(({ id }) => id === selected) ??
      pairs.find((pair) => pair["nominated"] === true && pair["state"] === "succeeded")
    );
  }

  rttMs(): number | null {
    const seconds = number(this.pair(), "currentRoundTripTime");
    return seconds === null ? null : seconds * 1000;
  }
}

/** Remembers counters between readings. */
class Deltas {
  private last = new Map<string, number>();
  private next = new Map<string, number>();

  /** How much a counter grew; `null` at the first reading and when it restarted. */
  of(name: string, value: number | null): number | null {
    if (value === null) return null;
    this.next.set(name, value);
    const before = this.last.get(name);
    return before === undefined || value < before ? null : value - before;
  }

  /** Growth of `sum` per growth of `count`, times `scale`. */
  mean(name: string, sum: number | null, count: number | null, scale: number): number | null {
    const grown = this.of(`${name}/sum`, sum);
    const counted = this.of(`${name}/count`, count);
    return grown === null || !counted ? null : (grown / counted) * scale;
  }

  /** Bytes of an entry per second of the browser's own clock, in kb/s. */
  kbps(name: string, entry: Entry | undefined, key: string): number | null {
    const bytes = this.of(`${name}/bytes`, number(entry, key));
    const ms = this.of(`${name}/time`, number(entry, "timestamp"));
    return bytes === null || !ms ? null : (bytes * 8) / ms;
  }

  turn(): void {
    this.last = this.next;
    this.next = new Map();
  }
}

function sum(...values: (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((total, value) => total + value, 0);
}

/** One per session. */
export class ViewerMeter {
  private readonly deltas = new Deltas();

  read(report: StatsReport): ViewerStats {
    const reading = new Reading(report);
    const video = reading.find("inbound-rtp", "video");
    const audio = reading.find("inbound-rtp", "audio");
    const { deltas } = this;

    const rttMs = reading.rttMs();
    const framesDecoded = number(video, "framesDecoded");
    const jitterBufferMs = deltas.mean(
      "jitter",
      number(video, "jitterBufferDelay"),
      number(video, "jitterBufferEmittedCount"),
      1000,
    );
    const decodeMs = deltas.mean("decode", number(video, "totalDecodeTime"), framesDecoded, 1000);
    const processingMs =
      deltas.mean("processing", number(video, "totalProcessingDelay"), framesDecoded, 1000) ??
      sum(jitterBufferMs, decodeMs);

    const lost = deltas.of("lost", sum(number(video, "packetsLost"), number(audio, "packetsLost")));
    const received = deltas.of("received", sum(number(video, "packetsReceived"), number(audio, "packetsReceived")));
    const lossPercent = received === null ? null : (100 * (lost ?? 0)) / Math.max(1, received + (lost ?? 0));
    const kbps = sum(deltas.kbps("video", video, "bytesReceived"), deltas.kbps("audio", audio, "bytesReceived"));
    deltas.turn();

    return {
      codec: reading.codecOf(video),
      width: number(video, "frameWidth"),
      height: number(video, "frameHeight"),
      fps: number(video, "framesPerSecond"),
      kbps,
      lossPercent,
      packetsLost: sum(number(video, "packetsLost"), number(audio, "packetsLost")) ?? 0,
      framesDecoded: framesDecoded ?? 0,
      framesDropped: number(video, "framesDropped") ?? 0,
      freezes: number(video, "freezeCount") ?? 0,
      freezeSeconds: number(video, "totalFreezesDuration") ?? 0,
      rttMs,
      jitterBufferMs,
      decodeMs,
      latencyMs: processingMs === null ? null : processingMs + (rttMs ?? 0) / 2,
      audioCodec: reading.codecOf(audio),
      audioLevel: number(audio, "audioLevel"),
      audioEnergy: number(audio, "totalAudioEnergy"),
      plisSent: number(video, "pliCount") ?? 0,
      nacksSent: number(video, "nackCount") ?? 0,
    };
  }
}

/** One per session. */
export class PublisherMeter {
  private readonly deltas = new Deltas();

  read(report: StatsReport): PublisherStats {
    const reading = new Reading(report);
    const sizes = reading.sent();
    const [video] = sizes;
    const audio = reading.find("outbound-rtp", "audio");
    const heard = reading.find("remote-inbound-rtp", "video") ?? reading.find("remote-inbound-rtp", "audio");
    const { deltas } = this;

    const videoKbps = sum(...sizes.map((each) => deltas.kbps(`video/${text(each, "rid") ?? ""}`, each, "bytesSent")));
    const audioKbps = deltas.kbps("audio", audio, "bytesSent");
    const encodeMs = deltas.mean(`encode/${text(video, "rid") ?? ""}`, number(video, "totalEncodeTime"), number(video, "framesEncoded"), 1000);
    deltas.turn();

    const reportedRtt = number(heard, "roundTripTime");
    const lost = number(heard, "fractionLost");
    const available = number(reading.pair(), "availableOutgoingBitrate");
    return {
      codec: reading.codecOf(video),
      audioCodec: reading.codecOf(audio),
      width: number(video, "frameWidth"),
      height: number(video, "frameHeight"),
      fps: number(video, "framesPerSecond"),
      videoKbps,
      audioKbps,
      audioLevel: number(reading.find("media-source", "audio"), "audioLevel"),
      rttMs: reading.rttMs() ?? (reportedRtt === null ? null : reportedRtt * 1000),
      lossPercent: lost === null ? null : lost * 100,
      availableKbps: available === null ? null : available / 1000,
      limitedBy: text(video, "qualityLimitationReason"),
      encoder: text(video, "encoderImplementation"),
      encodeMs,
      framesSent: number(video, "framesSent") ?? 0,
      keyframes: number(video, "keyFramesEncoded") ?? 0,
      plisReceived: number(video, "pliCount") ?? 0,
      nacksReceived: number(video, "nackCount") ?? 0,
    };
  }
}
