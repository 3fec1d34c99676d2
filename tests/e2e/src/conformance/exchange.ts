// Requests as a WHIP or WHEP client makes them, and the offers that the checks send.

export const SDP = "application/sdp";
export const FRAGMENT = "application/trickle-ice-sdpfrag";
const PATIENCE_MS = 10_000;

export interface Answer {
  status: number;
  headers: Headers;
  body: string;
}

export interface Asked {
  headers?: Record<string, string>;
  body?: string;
  /** Shows no token although there is one. */
  anonymous?: boolean;
}

export class Client {
  /** `always` are headers of all its requests. */
  constructor(
    readonly token: string | undefined,
    readonly always: Record<string, string> = {},
  ) {}

  async ask(method: string, url: URL, { headers = {}, body, anonymous = false }: Asked = {}): Promise<Answer> {
    const all: Record<string, string> = { ...this.always, ...headers };
    if (this.token !== undefined && !anonymous) all["authorization"] = `Bearer ${this.token}`;
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const init: RequestInit = { method, headers: all, redirect: "manual", signal };
    if (body !== undefined) init.body = body;
    const response = await fetch(url, init);
    return { status: response.status, headers: response.headers, body: await response.text() };
  }

  /** The head of a response whose body does not end. */
  async open(url: URL): Promise<{ status: number; type: string }> {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), PATIENCE_MS);
    const headers: Record<string, string> = this.token === undefined ? {} : { authorization: `Bearer ${this.token}` };
    const response = await fetch(url, { headers, signal: abort.signal });
    clearTimeout(timer);
    abort.abort();
    return { status: response.status, type: response.headers.get("content-type") ?? "" };
  }

  post(url: URL, offer: string, more: Record<string, string> = {}): Promise<Answer> {
    return this.ask("POST", url, { headers: { "content-type": SDP, ...more }, body: offer });
  }

  patch(url: URL, ifMatch: string | undefined, fragment: string, type = FRAGMENT): Promise<Answer> {
    const headers: Record<string, string> = { "content-type": type };
    if (ifMatch !== undefined) headers["if-match"] = ifMatch;
    return this.ask("PATCH", url, { headers, body: fragment });
  }
}

export interface OfferOptions {
  direction: "sendonly" | "recvonly" | "sendrecv" | "inactive";
  setup?: "actpass" | "active";
  /** Sections of pictures. */
  videos?: number;
  /** Only what no server has. */
  unheardOf?: boolean;
  simulcast?: boolean;
}

const FINGERPRINT = Array.from({ length: 32 }, (_, i) => (i * 7 + 16).toString(16).padStart(2, "0").toUpperCase()).join(":");
export const UFRAG = "cHk1";
export const PWD = "conformance0check0pwd0";

/** What a browser with H.264, VP8 and Opus would offer. */
export function offer({ direction, setup = "actpass", videos = 1, unheardOf = false, simulcast = false }: OfferOptions): string {
  const sends = direction === "sendonly" || direction === "sendrecv";
  const transport = (mid: number, kind: string): string[] => [
    "c=IN IP4 0.0.0.0",
    `a=ice-ufrag:${UFRAG}`,
    `a=ice-pwd:${PWD}`,
    `a=fingerprint:sha-256 ${FINGERPRINT}`,
    `a=setup:${setup}`,
    `a=mid:${mid}`,
    "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
    ...(simulcast && kind === "video" ? ["a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"] : []),
    `a=${direction}`,
    ...(sends ? [`a=msid:conformance ${kind}${mid}`] : []),
    "a=rtcp-mux",
    "a=rtcp-mux-only",
  ];
  const audio = [
    "m=audio 9 UDP/TLS/RTP/SAVPF 111",
    ...transport(0, "audio"),
    unheardOf ? "a=rtpmap:111 unheardof/48000/2" : "a=rtpmap:111 opus/48000/2",
  ];
  const formats = unheardOf
    ? ["a=rtpmap:96 unheardof/90000", "a=rtpmap:98 unheardoftoo/90000"]
    : [
        "a=rtpmap:96 H264/90000",
        "a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        "a=rtcp-fb:96 nack",
        "a=rtcp-fb:96 nack pli",
        "a=rtpmap:98 VP8/90000",
        "a=rtcp-fb:98 nack",
        "a=rtcp-fb:98 nack pli",
      ];
  const layers = simulcast ? ["a=rid:h send", "a=rid:l send", "a=simulcast:send h;l"] : [];
  const video = Array.from({ length: videos }, (_, at) => [
    "m=video 9 UDP/TLS/RTP/SAVPF 96 98",
    ...transport(at + 1, "video"),
    ...formats,
    ...layers,
  ]).flat();
  const mids = Array.from({ length: videos + 1 }, (_, mid) => mid).join(" ");
  const session = ["v=0", "o=- 4611731400430051336 2 IN IP4 127.0.0.1", "s=-", "t=0 0", `a=group:BUNDLE ${mids}`];
  return [...session, "a=ice-options:trickle ice2", ...audio, ...video, ""].join("\r\n");
}

/** A fragment of the offer's ICE session, or of another one. */
export function fragment(candidates: string[], ufrag = UFRAG, pwd = PWD): string {
  const lines = ["a=ice-options:trickle ice2", "a=group:BUNDLE 0 1", "m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:0"];
  return [...lines, `a=ice-ufrag:${ufrag}`, `a=ice-pwd:${pwd}`, ...candidates.map((c) => `a=${c}`), ""].join("\r\n");
}

/** An answer to the server's offer that takes all of it. */
export function acceptance(counterOffer: string): string {
  const lines = counterOffer.split("\r\n").filter((line) => !/^a=(ice-lite|candidate|end-of-candidates|ssrc|ssrc-group|msid)\b/.test(line));
  return lines
    .map((line) =>
      line
        .replace(/^a=ice-ufrag:.*/, `a=ice-ufrag:${UFRAG}`)
        .replace(/^a=ice-pwd:.*/, `a=ice-pwd:${PWD}`)
        .replace(/^a=fingerprint:.*/, `a=fingerprint:sha-256 ${FINGERPRINT}`)
        .replace(/^a=setup:.*/, "a=setup:active")
        .replace(/^a=(sendonly|sendrecv)$/, "a=recvonly"),
    )
    .join("\r\n");
}

/** The media sections of a description. */
export function sections(sdp: string): string[] {
  return sdp.split(/^(?=m=)/m).slice(1);
}

/** `Link` targets by relation, with their other attributes. */
export function links(headers: Headers): { target: string; rel: string; attributes: string }[] {
  const found = [...(headers.get("link") ?? "").matchAll(/<([^>]*)>((?:\s*;\s*[\w-]+(?:="[^"]*"|=[^;,]*)?)*)/g)];
  return found.map(([, target = "", attributes = ""]) => {
    return { target, attributes, rel: /rel="?([^";]+)"?/.exec(attributes)?.[1] ?? "" };
  });
}
