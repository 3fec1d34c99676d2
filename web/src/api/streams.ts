/** The server's API as the dashboard uses it: `/api/v1/streams`, `/api/v1/doors`. JSON is checked on arrival; unknown fields are ignored. */

import { asSignallingError, errorOf, SignallingError } from "../../lib/src/problem.ts";

export interface Track {
  readonly kind: "audio" | "video";
  readonly codec: string;
  readonly channels: number;
  readonly bytes: number;
  readonly keyframes: number;
  readonly width: number | null;
  readonly height: number | null;
}

export interface Publisher {
  readonly session: string;
  readonly protocol: string;
  /** `primary` or `backup`. */
  readonly priority: string;
  readonly remote: string;
  readonly userAgent: string;
}

export interface Notice {
  readonly code: string;
  readonly text: string;
}

/** Another server that the stream is fetched from. */
export interface Source {
  readonly source: string;
  readonly onDemand: boolean;
  /** `idle`, `waiting`, `connecting`, `standby`, `live` or `retrying`. */
  readonly state: string;
  readonly problem: string | null;
}

export interface StreamSummary {
  readonly name: string;
  readonly live: boolean;
  /** Unix time in ms. */
  readonly sinceMs: number | null;
  readonly publisher: Publisher | null;
  /** The other one of a primary and a backup. */
  readonly standby: Publisher | null;
  readonly tracks: readonly Track[];
  readonly notices: readonly Notice[];
  readonly viewers: number;
  /** None, or one. */
  readonly pulls: readonly Source[];
}

export interface Viewer {
  readonly session: string;
  readonly from: string;
  readonly userAgent: string;
  readonly sinceMs: number | null;
  readonly connected: boolean;
  readonly bytesSent: number;
  /** By the viewer's last report; `null` until it has reported. */
  readonly roundTripMs: number | null;
  /** From 0 to 1. */
  readonly lostShare: number | null;
}

/** Where publishers come in other than by HTTP. */
export interface Doors {
  /** `null`: there is no RTMP. */
  readonly rtmpPort: number | null;
}

type Json = Readonly<Record<string, unknown>>;

function object(value: unknown): Json | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : null;
}

function objects(value: unknown): Json[] {
  return Array.isArray(value) ? value.map(object).filter((entry) => entry !== null) : [];
}

function text(json: Json, key: string): string {
  const value = json[key];
  return typeof value === "string" ? value : "";
}

function number(json: Json, key: string): number | null {
  const value = json[key];
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function time(json: Json, key: string): number | null {
  const parsed = Date.parse(text(json, key));
  return Number.isNaN(parsed) ? null : parsed;
}

function publisher(value: unknown): Publisher | null {
  const json = object(value);
  if (!json) return null;
  return {
    session: text(json, "session"),
    protocol: text(json, "protocol"),
    priority: text(json, "priority"),
    remote: text(json, "remote"),
    userAgent: text(json, "user_agent"),
  };
}

function summary(json: Json): StreamSummary {
  return {
    name: text(json, "name"),
    live: json["live"] === true,
    sinceMs: time(json, "since"),
    publisher: publisher(json["publisher"]),
    standby: publisher(json["standby"]),
    tracks: objects(json["tracks"]).map((track) => ({
      kind: text(track, "kind") === "audio" ? "audio" : "video",
      codec: text(track, "codec"),
      channels: number(track, "channels") ?? 1,
      bytes: number(track, "bytes") ?? 0,
      keyframes: number(track, "keyframes") ?? 0,
      width: number(track, "width"),
      height: number(track, "height"),
    })),
    notices: objects(json["notices"]).map((notice) => ({ code: text(notice, "code"), text: text(notice, "text") })),
    viewers: number(json, "viewer_count") ?? 0,
    pulls: objects(json["pulls"]).map((pull) => ({
      source: text(pull, "source"),
      onDemand: pull["on_demand"] === true,
      state: text(pull, "state"),
      problem: text(pull, "problem") || null,
    })),
  };
}

/** Throws a `SignallingError` when the document is not a list of streams. */
export function parseStreams(document: unknown): StreamSummary[] {
  const streams = object(document)?.["streams"];
  if (!Array.isArray(streams)) throw new SignallingError("protocol", "the server's list of streams cannot be read");
  return objects(streams)
    .map(summary)
    .filter(({ name }) => name !== "");
}

export function parseViewers(document: unknown): Viewer[] {
  return objects(object(document)?.["viewers"]).map((viewer) => ({
    session: text(viewer, "session"),
    from: text(viewer, "from"),
    userAgent: text(viewer, "user_agent"),
    sinceMs: time(viewer, "since"),
    connected: viewer["connected"] === true,
    bytesSent: number(viewer, "bytes_sent") ?? 0,
    roundTripMs: number(viewer, "round_trip_ms"),
    lostShare: number(viewer, "lost_share"),
  }));
}

/** Throws a `SignallingError` when the document does not say where RTMP is. */
export function parseDoors(document: unknown): Doors {
  const json = object(document);
  if (!json || !("rtmp_port" in json)) throw new SignallingError("protocol", "the server's doors cannot be read");
  return { rtmpPort: number(json, "rtmp_port") };
}

/** Longest wait for an answer of the API: it reads memory only, so later than this means that nobody is there. */
const TIMEOUT_MS = 5_000;

export class Api {
  constructor(
    public token: string | null,
    private readonly base = "/api/v1",
  ) {}

  async streams(): Promise<StreamSummary[]> {
    return parseStreams(await (await this.request("GET", "/streams")).json().catch(() => null));
  }

  async viewers(stream: string): Promise<Viewer[]> {
    const response = await this.request("GET", `/streams/${encodeURIComponent(stream)}`);
    return parseViewers(await response.json().catch(() => null));
  }

  async doors(): Promise<Doors> {
    return parseDoors(await (await this.request("GET", "/doors")).json().catch(() => null));
  }

  async endPublisher(stream: string): Promise<void> {
    await this.request("DELETE", `/streams/${encodeURIComponent(stream)}/publisher`);
  }

  async endViewer(stream: string, session: string): Promise<void> {
    await this.request("DELETE", `/streams/${encodeURIComponent(stream)}/viewers/${encodeURIComponent(session)}`);
  }

  private async request(method: "GET" | "DELETE", path: string): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(this.base + path, {
        method,
        headers: { Accept: "application/json", ...(this.token && { Authorization: `Bearer ${this.token}` }) },
        cache: "no-store",
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
    } catch (thrown) {
      if (thrown instanceof DOMException) throw new SignallingError("network", "the server does not answer");
      throw asSignallingError(thrown);
    }
    if (!response.ok) throw await errorOf(response, "api");
    return response;
  }
}

/** Bitrates of streams, from how much their byte counters grew between two polls. */
export class BitrateMeter {
  private last = new Map<string, { readonly session: string; readonly bytes: number; readonly atMs: number }>();

  /** kb/s by stream name; `null` until a stream was seen twice with the same publisher. */
  update(streams: readonly StreamSummary[], nowMs: number): Map<string, number | null> {
    const next: typeof this.last = new Map();
    const rates = new Map<string, number | null>();
    for (const { name, publisher: by, tracks } of streams) {
      const bytes = tracks.reduce((sum, track) => sum + track.bytes, 0);
      const session = by?.session ?? "";
      const before = this.last.get(name);
      const comparable = before && before.session === session && bytes >= before.bytes && nowMs > before.atMs;
      rates.set(name, by && comparable ? ((bytes - before.bytes) * 8) / (nowMs - before.atMs) : null);
      next.set(name, { session, bytes, atMs: nowMs });
    }
    this.last = next;
    return rates;
  }
}
