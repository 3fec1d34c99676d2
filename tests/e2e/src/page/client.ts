// Somebody's own page, of another origin than the server's: the client library as every server gives it, `/client.js`.

import type * as Library from "../../../../web/lib/src/index.ts";
import Hls from "hls.js";
import { camera } from "./camera.ts";

export interface ClientOptions {
  /** The server that gives the library. */
  library: string;
  endpoint: string;
  /** Given out one after the other, the last again and again. */
  tokens?: string[];
  /** Whether to listen to the server's events; true when absent. */
  events?: boolean;
  /** A multivariant playlist for where WebRTC has no path, with hls.js as this page's own bundle has it. */
  hls?: string;
  /** Sends what the browser's microphone hears: without a sound card Firefox starts no sound of a page's making. */
  microphone?: boolean;
}

export interface ClientReport {
  state: Library.ConnectionState;
  transport: Library.Transport | null;
  reconnects: number;
  /** The session's URL, without what names it. */
  resource: string | undefined;
  tokensAsked: number;
  errors: string[];
  /** Of the present session. */
  frames: number;
  /** Shown by the video element, whatever they came by. */
  framesShown: number;
  codec: string | undefined;
  audioCodec: string | undefined;
  audioEnergy: number;
}

let connection: Library.Viewer | Library.Publisher | undefined;
let tokensAsked = 0;
const errors: string[] = [];
const video = document.createElement("video");
video.muted = true;
document.body.append(video);

async function load({ library }: ClientOptions): Promise<typeof Library> {
  return (await import(`${library}/client.js`)) as typeof Library;
}

function source({ tokens }: ClientOptions): Library.TokenSource {
  if (tokens === undefined) return null;
  return () => {
    tokensAsked += 1;
    return tokens[Math.min(tokensAsked, tokens.length) - 1] ?? null;
  };
}

async function watch(options: ClientOptions): Promise<void> {
  const library = await load(options);
  const { endpoint, hls } = options;
  const fallback = hls === undefined ? null : { hls, load: () => Promise.resolve(Hls) };
  const viewer = library.watch({ url: endpoint, token: source(options), video, fallback });
  viewer.on("error", ({ message }) => errors.push(message));
  // With a listener for any of them, `reconnect` comes along.
  if (options.events ?? true) viewer.on("viewercount", () => undefined);
  connection = viewer;
}

async function publish(options: ClientOptions): Promise<void> {
  const library = await load(options);
  const media = await camera(options.microphone);
  const publisher = library.publish({ url: options.endpoint, token: source(options), media, codec: "VP8", videoKbps: 800 });
  publisher.on("error", ({ message }) => errors.push(message));
  connection = publisher;
}

async function report(): Promise<ClientReport> {
  if (connection === undefined) throw new Error("nothing was begun");
  const { state, reconnects, session } = connection;
  const found: ClientReport = {
    state,
    transport: "transport" in connection ? connection.transport : null,
    reconnects,
    resource: session?.resource,
    tokensAsked,
    errors,
    frames: 0,
    framesShown: video.getVideoPlaybackQuality().totalVideoFrames,
    codec: undefined,
    audioCodec: undefined,
    audioEnergy: 0,
  };
  const stats = await session?.pc.getStats();
  stats?.forEach((entry) => {
    const codec = (stats.get(entry.codecId) as { mimeType?: string } | undefined)?.mimeType;
    if (entry.type !== "inbound-rtp" && entry.type !== "outbound-rtp") return;
    if (entry.kind === "video") {
      found.frames = entry.framesDecoded ?? entry.framesEncoded ?? 0;
      found.codec = codec;
    } else {
      found.audioEnergy = entry.totalAudioEnergy ?? 0;
      found.audioCodec = codec;
    }
  });
  return found;
}

/** Ends the session; gives what the server says of it then. */
async function close(): Promise<number> {
  const resource = connection?.session?.resource;
  await connection?.close();
  if (resource === undefined) return 0;
  return (await fetch(resource)).status;
}

export const client = { watch, publish, report, close };
declare global {
  interface Window {
    client: typeof client;
  }
}
window.client = client;
