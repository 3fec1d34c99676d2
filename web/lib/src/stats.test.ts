import { describe, expect, it } from "vitest";
import { PublisherMeter, ViewerMeter } from "./stats.ts";

type Entries = Record<string, Record<string, unknown>>;

function report(entries: Entries): Map<string, Record<string, unknown>> {
  return new Map(Object.entries(entries).map(([id, entry]) => [id, { id, ...entry }]));
}

function viewerReport(at: number, over: Record<string, unknown> = {}): Entries {
  return {
    T: { type: "transport", selectedCandidatePairId: "P" },
    P: { type: "candidate-pair", currentRoundTripTime: 0.02 },
    other: { type: "candidate-pair", currentRoundTripTime: 9, nominated: true, state: "succeeded" },
    CV: { type: "codec", mimeType: "video/H264" },
    CA: { type: "codec", mimeType: "audio/opus" },
    V: {
      type: "inbound-rtp",
      kind: "video",
      codecId: "CV",
      timestamp: at * 1_000,
      bytesReceived: at * 250_000,
      packetsReceived: at * 99,
      packetsLost: at,
      framesDecoded: at * 30,
      framesPerSecond: 30,
      frameWidth: 1280,
      frameHeight: 720,
      jitterBufferDelay: at * 30 * 0.01,
      jitterBufferEmittedCount: at * 30,
      totalDecodeTime: at * 30 * 0.002,
      totalProcessingDelay: at * 30 * 0.014,
      freezeCount: 0,
      framesDropped: 1,
      ...over,
    },
    A: {
      type: "inbound-rtp",
      kind: "audio",
      codecId: "CA",
      timestamp: at * 1_000,
      bytesReceived: at * 12_500,
      packetsReceived: 0,
      packetsLost: 0,
      totalAudioEnergy: 0.5,
    },
  };
}

describe("ViewerMeter", () => {
  it("turns counters into rates between two readings", () => {
    const meter = new ViewerMeter();
    const first = meter.read(report(viewerReport(1)));
    expect(first).toMatchObject({
      codec: "H264",
      audioCodec: "opus",
      width: 1280,
      fps: 30,
      kbps: null,
      latencyMs: null,
      lossPercent: null,
    });
    const second = meter.read(report(viewerReport(2)));
    expect(second.kbps).toBeCloseTo(2_100);
    expect(second.lossPercent).toBeCloseTo(1);
    expect(second.jitterBufferMs).toBeCloseTo(10);
    expect(second.decodeMs).toBeCloseTo(2);
    expect(second.rttMs).toBeCloseTo(20);
    expect(second.latencyMs).toBeCloseTo(24);
  });

  it("adds jitter buffer and decoder where the browser gives no sum", () => {
    const meter = new ViewerMeter();
    meter.read(report(viewerReport(1, { totalProcessingDelay: undefined })));
    expect(meter.read(report(viewerReport(2, { totalProcessingDelay: undefined }))).latencyMs).toBeCloseTo(22);
  });

  it("says null, not 0, where nothing is known", () => {
    const meter = new ViewerMeter();
    meter.read(report({}));
    expect(meter.read(report({}))).toMatchObject({
      kbps: null,
      fps: null,
      rttMs: null,
      latencyMs: null,
      lossPercent: null,
      codec: null,
    });
  });

  it("starts anew when counters restart", () => {
    const meter = new ViewerMeter();
    meter.read(report(viewerReport(5)));
    expect(meter.read(report(viewerReport(1)))).toMatchObject({ kbps: null, latencyMs: null });
  });
});

describe("PublisherMeter", () => {
  const entries = (at: number): Entries => ({
    P: {
      type: "candidate-pair",
      nominated: true,
      state: "succeeded",
      currentRoundTripTime: 0.004,
      availableOutgoingBitrate: 3e6,
    },
    C: { type: "codec", mimeType: "video/VP8" },
    V: {
      type: "outbound-rtp",
      kind: "video",
      codecId: "C",
      timestamp: at * 1_000,
      bytesSent: at * 125_000,
      framesEncoded: at * 30,
      totalEncodeTime: at * 30 * 0.005,
      framesPerSecond: 30,
      frameWidth: 640,
      frameHeight: 360,
      qualityLimitationReason: "cpu",
    },
    R: { type: "remote-inbound-rtp", kind: "video", fractionLost: 0.25, roundTripTime: 0.5 },
  });

  it("reads what is sent and what the server reports", () => {
    const meter = new PublisherMeter();
    meter.read(report(entries(1)));
    const stats = meter.read(report(entries(2)));
    expect(stats).toMatchObject({
      codec: "VP8",
      limitedBy: "cpu",
      availableKbps: 3_000,
      lossPercent: 25,
      rttMs: 4,
      audioKbps: null,
    });
    expect(stats.videoKbps).toBeCloseTo(1_000);
    expect(stats.encodeMs).toBeCloseTo(5);
  });

  it("tells of the largest of several sizes, and what all of them take", () => {
    const meter = new PublisherMeter();
    const small = (at: number): Entries[string] => ({
      type: "outbound-rtp",
      kind: "video",
      rid: "l",
      timestamp: at * 1_000,
      bytesSent: at * 25_000,
      frameWidth: 160,
      frameHeight: 90,
    });
    const of = (at: number): Entries => ({ L: small(at), ...entries(at) });
    meter.read(report(of(1)));
    const stats = meter.read(report(of(2)));
    expect(stats).toMatchObject({ width: 640, height: 360, codec: "VP8", limitedBy: "cpu" });
    expect(stats.videoKbps).toBeCloseTo(1_200);
    expect(stats.encodeMs).toBeCloseTo(5);
  });
});
