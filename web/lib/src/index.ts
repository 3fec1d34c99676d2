/** Sluice's client library for browsers: publish by WHIP, watch by WHEP. No dependency, no global state. */

export type { BackoffOptions } from "./backoff.ts";
export type { ConnectionEvents, ConnectionOptions, Reconnecting, SessionInfo } from "./connection.ts";
export { sendableCodecs, VIDEO_CODECS, type VideoCodec } from "./encodings.ts";
export type { Transport } from "./fallback.ts";
export type { HlsFallback } from "./hls.ts";
export type { LossReason } from "./peer.ts";
export { SignallingError, type ErrorKind, type Problem } from "./problem.ts";
export { publish, Publisher, type PublisherEvents, type PublishOptions } from "./publish.ts";
export type { ConnectionState, ReconnectOptions, StateChange } from "./recovery.ts";
export { PublisherMeter, ViewerMeter, type PublisherStats, type StatsReport, type ViewerStats } from "./stats.ts";
export type { TokenSource } from "./token.ts";
export { Viewer, watch, type LayerChoice, type ViewerEvents, type WatchOptions } from "./watch.ts";
export type { Layer } from "./whep-events.ts";
