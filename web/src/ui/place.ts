/**
 * Where the page is and with whose right: stream names, tokens, and the URLs that other programs need.
 *
 * A token comes as `?token=` (or `#token=`, which no server and no proxy ever sees) and goes out as
 * `Authorization: Bearer` only. Links within these pages carry it in the fragment; links to share carry none.
 */

/** As the server has it; anything else is refused there with 400. */
const STREAM_NAME = /^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$/;

export function isStreamName(text: string): boolean {
  return STREAM_NAME.test(text);
}

/** Why a text is no stream name, fit to be shown; `null` when it is one. */
export function streamNameFault(text: string): string | null {
  if (isStreamName(text)) return null;
  if (text === "") return "Give the stream a name.";
  if (text.length > 128) return "A stream name has at most 128 characters.";
  if (!/^[A-Za-z0-9]/.test(text)) return "A stream name starts with a letter or a digit.";
  return "A stream name holds letters, digits and . _ ~ - only.";
}

/** The stream that `/publish/{stream}` or `/watch/{stream}` is about. */
export function streamOf(pathname: string): string | null {
  const segment = /^\/(?:publish|watch)\/([^/]+)\/?$/.exec(pathname)?.[1];
  if (segment === undefined) return null;
  try {
    const name = decodeURIComponent(segment);
    return isStreamName(name) ? name : null;
  } catch {
    return null;
  }
}

export function tokenOf(location: { readonly search: string; readonly hash: string }): string | null {
  const given = (text: string): string | null => new URLSearchParams(text).get("token") || null;
  return given(location.hash.replace(/^#/, "")) ?? given(location.search);
}

/** A link within these pages, for the same person. */
export function pageLink(page: "publish" | "watch", stream: string, token: string | null): string {
  return `/${page}/${encodeURIComponent(stream)}${token ? `#token=${encodeURIComponent(token)}` : ""}`;
}

/** RTMP's own port, which its URLs need not name. */
export const RTMP_PORT = 1935;

export interface StreamUrls {
  readonly whip: string;
  readonly whep: string;
  readonly watch: string;
  /** OBS's "Server". */
  readonly rtmpServer: string;
  /** OBS's "Stream key". */
  readonly rtmpKey: string;
  readonly ffmpegRtmp: string;
  readonly ffmpegWhip: string;
}

/** What to type into other programs. `origin` is the server's, `hostname` its name as the browser has it. */
export function urlsOf(stream: string, origin: string, hostname: string, rtmpPort = RTMP_PORT): StreamUrls {
  const name = encodeURIComponent(stream);
  const rtmpServer = `rtmp://${hostname}${rtmpPort === RTMP_PORT ? "" : `:${rtmpPort}`}/live`;
  const whip = `${origin}/whip/${name}`;
  const source = "-re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine=frequency=440";
  const video = "-c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -b:v 2500k -g 60";
  return {
    whip,
    whep: `${origin}/whep/${name}`,
    watch: `${origin}/watch/${name}`,
    rtmpServer,
    rtmpKey: stream,
    ffmpegRtmp: `ffmpeg ${source} ${video} -c:a aac -ar 48000 -f flv ${rtmpServer}/${name}`,
    ffmpegWhip: `ffmpeg ${source} ${video} -profile:v baseline -c:a libopus -ar 48000 -ac 2 -f whip ${whip}`,
  };
}
