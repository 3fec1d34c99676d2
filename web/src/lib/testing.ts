/** Peers and servers for tests: they do what the interfaces promise, and nothing happens by itself. */

class FakeTransport extends EventTarget {
  state = "new";
}

export class FakePeer extends EventTarget {
  connectionState = "new";
  closed = false;
  readonly transport = new FakeTransport();
  readonly transceivers: { kind: string; direction: string | undefined; receiver: Record<string, unknown> }[] = [];
  localDescription: RTCSessionDescriptionInit | null = null;
  remoteDescription: RTCSessionDescriptionInit | null = null;

  addTransceiver(kind: string, init?: RTCRtpTransceiverInit): { receiver: Record<string, unknown> } {
    const transceiver = { kind, direction: init?.direction, receiver: { transport: this.transport } };
    this.transceivers.push(transceiver);
    return transceiver;
  }

  getSenders(): [] {
    return [];
  }

  getReceivers(): Record<string, unknown>[] {
    return this.transceivers.map(({ receiver }) => receiver);
  }

  async createOffer(): Promise<RTCSessionDescriptionInit> {
    return { type: "offer", sdp: "v=0\r\na=rtpmap:111 opus/48000/2\r\n" };
  }

  async createAnswer(): Promise<RTCSessionDescriptionInit> {
    return { type: "answer", sdp: "v=0\r\na=rtpmap:111 opus/48000/2\r\n" };
  }

  async setLocalDescription(description: RTCSessionDescriptionInit): Promise<void> {
    this.localDescription = description;
  }

  async setRemoteDescription(description: RTCSessionDescriptionInit): Promise<void> {
    this.remoteDescription = description;
  }

  configuration: RTCConfiguration = {};
  setConfiguration(configuration: RTCConfiguration): void {
    this.configuration = configuration;
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
}

export interface Asked {
  readonly method: string;
  readonly url: string;
  readonly headers: Headers;
  readonly body: string;
  readonly keepalive: boolean;
}

/** A `fetch` that answers from a list, the last answer again and again; DELETE always gets 200. */
export function fakeServer(...answers: (() => Response)[]): { fetch: typeof fetch; asked: Asked[] } {
  const asked: Asked[] = [];
  let next = 0;
  return {
    asked,
    fetch: async (input, init = {}) => {
      const method = init.method ?? "GET";
      asked.push({
        method,
        url: String(input),
        headers: new Headers(init.headers),
        body: String(init.body ?? ""),
        keepalive: init.keepalive ?? false,
      });
      if (method === "DELETE") return new Response(null, { status: 200 });
      const answer = answers[Math.min(next, answers.length - 1)];
      next += 1;
      if (!answer) throw new TypeError("Failed to fetch");
      return answer();
    },
  };
}

export function created(session = "1", more: Record<string, string> = {}): Response {
  const headers = { ...more, "Content-Type": "application/sdp", Location: `/whep/cam1/${session}` };
  return new Response("v=0 the answer", { status: 201, headers });
}

/** 406 with an offer of the server's. */
export function countered(session = "1"): Response {
  const headers = { "Content-Type": "application/sdp", Location: `/whep/cam1/${session}` };
  return new Response("v=0 the counter-offer", { status: 406, headers });
}

export function refused(status: number, headers: Record<string, string> = {}): Response {
  const body = JSON.stringify({ type: "about:blank", title: "No", status, detail: `refused with ${status}` });
  return new Response(body, { status, headers: { "Content-Type": "application/problem+json", ...headers } });
}

/** A `MediaStream` as far as the library touches it, where there is no browser. */
export class FakeMediaStream {
  readonly tracks: unknown[] = [];
  addTrack(track: unknown): void {
    this.tracks.push(track);
  }
}
