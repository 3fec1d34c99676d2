/** Sluice's client library for browsers: publish by WHIP, watch by WHEP. No dependency, no global state. */

export { Backoff, type BackoffOptions } from "./backoff";
export type { LossReason } from "./peer";
export { Player, type PlayerChange, type PlayerOptions, type PlayerState } from "./player";
export { SignallingError, type ErrorKind, type Problem } from "./problem";
export { PublisherMeter, ViewerMeter, type PublisherStats, type StatsReport, type ViewerStats } from "./stats";
export { watch, type WatchOptions, type WatchSession } from "./whep";
export {
  publish,
  sendableCodecs,
  VIDEO_CODECS,
  type PublishOptions,
  type PublishSession,
  type VideoCodec,
} from "./whip";
