/** Peers and servers for tests: they do what the interfaces promise, and nothing happens by itself. */

class FakeTransport extends EventTarget {
  state = "new";
}

/** The description of a restart has another number at its end. */
const local = (generation: number): string =>
  [
    "v=0",
    "a=group:BUNDLE 0 1",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111",
    "a=mid:0",
    `a=ice-ufrag:own${generation}`,
    `a=ice-pwd:own-password-${generation}`,
    "a=rtpmap:111 opus/48000/2",
    "",
  ].join("\r\n");

export class FakePeer extends EventTarget {
  connectionState = "new";
  signalingState = "stable";
  closed = false;
  readonly transport = new FakeTransport();
  readonly transceivers: { kind: string; direction: string | undefined; receiver: Record<string, unknown> }[] = [];
  localDescription: RTCSessionDescriptionInit | null = null;
  remoteDescription: RTCSessionDescriptionInit | null = null;
  /** What an answer to the server's own offer looks like. */
  ownAnswer = local(1);
  private restarts = 0;

  constructor(public configuration: RTCConfiguration = {}) {
    super();
  }

  addTransceiver(track: string | { kind: string }, init?: RTCRtpTransceiverInit): object {
    const kind = typeof track === "string" ? track : track.kind;
    const transceiver = {
      kind,
      direction: init?.direction,
      sendEncodings: init?.sendEncodings,
      receiver: { transport: this.transport },
    };
    this.transceivers.push(transceiver);
    return transceiver;
  }

  getSenders(): [] {
    return [];
  }

  getReceivers(): Record<string, unknown>[] {
    return this.transceivers.map(({ receiver }) => receiver);
  }

  getConfiguration(): RTCConfiguration {
    return this.configuration;
  }

  setConfiguration(configuration: RTCConfiguration): void {
    this.configuration = configuration;
  }

  async getStats(): Promise<Map<string, object>> {
    return new Map();
  }

  async createOffer(options: RTCOfferOptions = {}): Promise<RTCSessionDescriptionInit> {
    if (options.iceRestart) this.restarts += 1;
    return { type: "offer", sdp: local(this.restarts) };
  }

  async createAnswer(): Promise<RTCSessionDescriptionInit> {
    return { type: "answer", sdp: this.ownAnswer };
  }

  async setLocalDescription(description: RTCSessionDescriptionInit): Promise<void> {
    this.signalingState = description.type === "offer" ? "have-local-offer" : "stable";
    if (description.type !== "rollback") this.localDescription = description;
  }

  async setRemoteDescription(description: RTCSessionDescriptionInit): Promise<void> {
    this.signalingState = description.type === "offer" ? "have-remote-offer" : "stable";
    this.remoteDescription = description;
  }

  close(): void {
    this.closed = true;
    this.connectionState = "closed";
  }

  become(state: string): void {
    this.connectionState = state;
    this.dispatchEvent(new Event("connectionstatechange"));
  }

  transportBecomes(state: string): void {
    this.transport.state = state;
    this.transport.dispatchEvent(new Event("statechange"));
  }

  /** Gathers a candidate; `null`: there are no more. */
  gathers(candidate: string | null): void {
    const event = new Event("icecandidate");
    this.dispatchEvent(Object.assign(event, { candidate: candidate === null ? null : { candidate } }));
  }
}

export interface Asked {
  readonly method: string;
  readonly url: string;
  readonly headers: Headers;
  readonly body: string;
  readonly keepalive: boolean;
  readonly signal: AbortSignal | null;
}

type Answering = (asked: Asked) => Response | Promise<Response>;

/**
 * A `fetch` that answers POSTs to endpoints from a list, the last answer again and again; DELETE gets 200 and the rest 204, unless
 * `others` has something to say.
 */
export class FakeServer {
  readonly asked: Asked[] = [];
  others: (asked: Asked) => Response | Promise<Response> | undefined = () => undefined;
  private next = 0;

  constructor(private readonly answers: readonly Answering[]) {}

  readonly fetch: typeof fetch = async (input, init = {}) => {
    const asked: Asked = {
      method: init.method ?? "GET",
      url: String(input),
      headers: new Headers(init.headers),
      body: String(init.body ?? ""),
      keepalive: init.keepalive ?? false,
      signal: init.signal ?? null,
    };
    this.asked.push(asked);
    const other = this.others(asked);
    if (other !== undefined) return other;
    if (asked.method !== "POST") return new Response(null, { status: asked.method === "DELETE" ? 200 : 204 });
    const answer = this.answers[Math.min(this.next, this.answers.length - 1)];
    this.next += 1;
    if (!answer) throw new TypeError("Failed to fetch");
    return answer(asked);
  };

  of(method: string): Asked[] {
    return this.asked.filter((asked) => asked.method === method);
  }
}

export const ANSWER =
  "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\na=ice-lite\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:theirs\r\na=ice-pwd:theirs\r\n";
export const RESTARTED = "a=ice-ufrag:again\r\na=ice-pwd:again\r\na=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n";

export function created(headers: Record<string, string> = {}): Response {
  const all = { "Content-Type": "application/sdp", Location: "/whep/cam1/1", ETag: '"first"', ...headers };
  return new Response(ANSWER, { status: 201, headers: all });
}

export function restarted(etag = '"second"'): Response {
  const headers = { "Content-Type": "application/trickle-ice-sdpfrag", ETag: etag };
  return new Response(RESTARTED, { status: 200, headers });
}

export function refused(status: number, headers: Record<string, string> = {}): Response {
  const body = JSON.stringify({ type: "about:blank", title: "No", status, detail: `refused with ${status}` });
  return new Response(body, { status, headers: { "Content-Type": "application/problem+json", ...headers } });
}

/** As after a redirection to another place. */
export function from(url: string, response: Response): Response {
  Object.defineProperties(response, { url: { value: url }, redirected: { value: true } });
  return response;
}

/** A `MediaStream` as far as the library touches it, where there is no browser. */
export class FakeMediaStream {
  readonly tracks: unknown[] = [];
  addTrack(track: unknown): void {
    this.tracks.push(track);
  }
}

/** A video element as far as the library touches it, where there is no browser. It shows what `shows()` says. */
export class FakeVideo extends EventTarget {
  srcObject: unknown = null;
  paused = true;
  muted = false;
  playsInline = false;
  currentTime = 0;
  videoWidth = 0;
  videoHeight = 0;
  /** What the browser says of HLS. */
  plays: "" | "maybe" = "";
  private readonly attributes = new Map<string, string>();

  get src(): string {
    return this.attributes.get("src") ?? "";
  }

  set src(url: string) {
    this.attributes.set("src", url);
  }

  getAttribute(name: string): string | null {
    return this.attributes.get(name) ?? null;
  }

  removeAttribute(name: string): void {
    this.attributes.delete(name);
  }

  canPlayType(): string {
    return this.plays;
  }

  load(): void {}

  async play(): Promise<void> {
    this.paused = false;
  }

  /** A first picture is there, and moves. */
  shows(): void {
    this.currentTime += 1;
    for (const type of ["loadeddata", "playing"]) this.dispatchEvent(new Event(type));
  }
}

/** hls.js as far as the library calls it. */
export class FakeHls {
  static made: FakeHls[] = [];
  static isSupported = (): boolean => true;
  source = "";
  video: unknown = null;
  recovered = 0;
  destroyed = false;
  private readonly listeners: ((event: string, fault: object) => void)[] = [];

  constructor(readonly config: { xhrSetup(xhr: unknown, url: string): Promise<void> }) {
    FakeHls.made.push(this);
  }

  attachMedia(video: unknown): void {
    this.video = video;
  }

  loadSource(url: string): void {
    this.source = url;
  }

  on(_event: string, listener: (event: string, fault: object) => void): void {
    this.listeners.push(listener);
  }

  recoverMediaError(): void {
    this.recovered += 1;
  }

  destroy(): void {
    this.destroyed = true;
  }

  fails(type = "networkError", fatal = true): void {
    for (const listener of this.listeners) listener("hlsError", { fatal, type, details: "levelLoadError" });
  }
}
