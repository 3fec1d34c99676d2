// What a check is, and what it has to work with.

import * as x from "./exchange.ts";

/** Where the checks are held to: endpoints of streams, the WHEP one's live if its sessions are to be checked. */
export interface Target {
  protocol: "WHIP" | "WHEP";
  endpoint: URL;
  /** A WHEP endpoint of a stream that is not live. */
  idle?: URL | undefined;
  /** An endpoint of a server that has no room for a session; of one that then names another node; of one that limits requests. */
  full?: URL | undefined;
  elsewhere?: URL | undefined;
  limited?: URL | undefined;
  client: x.Client;
}

export interface Result {
  protocol: string;
  name: string;
  section: string;
  outcome: "pass" | "fail" | "not applicable";
  why: string;
}

/** Thrown by a check about something that the server need not have. */
export class NotApplicable extends Error {}
export const inapplicable = (why: string): never => {
  throw new NotApplicable(why);
};
export function need(holds: boolean, why: string): void {
  if (!holds) throw new Error(why);
}
export const is4xx = ({ status }: x.Answer): boolean => status >= 400 && status < 500;
export const told = ({ status, body }: x.Answer): string => `the answer is ${status} ${body.slice(0, 160).replaceAll(/\s+/g, " ")}`;

export interface Session {
  url: URL;
  etag: string | undefined;
  answer: x.Answer;
}

/** One check's view of the target; sessions it opens are closed after it. */
export class Case {
  readonly opened: URL[] = [];
  constructor(readonly target: Target) {}

  get client(): x.Client {
    return this.target.client;
  }
  get endpoint(): URL {
    return this.target.endpoint;
  }
  get direction(): "sendonly" | "recvonly" {
    return this.target.protocol === "WHIP" ? "sendonly" : "recvonly";
  }

  session(url: URL): URL {
    this.opened.push(url);
    return url;
  }

  async post(options: Partial<x.OfferOptions> = {}, headers: Record<string, string> = {}): Promise<x.Answer> {
    const answer = await this.client.post(this.endpoint, x.offer({ direction: this.direction, ...options }), headers);
    const location = answer.headers.get("location");
    if (location !== null) this.session(new URL(location, this.endpoint));
    return answer;
  }

  async open(options: Partial<x.OfferOptions> = {}): Promise<Session> {
    const answer = await this.post(options);
    if (answer.status === 409 && this.target.protocol === "WHEP") inapplicable("the stream is not live: publish to it");
    need(answer.status === 201, told(answer));
    const url = this.opened.at(-1);
    if (url === undefined) throw new Error("there is no Location");
    return { url, etag: answer.headers.get("etag") ?? undefined, answer };
  }

  /** A session and its entity tag, of a server that knows PATCH. */
  async patchable(): Promise<{ url: URL; etag: string }> {
    const { url, etag } = await this.open();
    const tried = await this.client.patch(url, etag, x.fragment([]));
    if ([405, 422, 501].includes(tried.status)) inapplicable(`no trickle ICE: PATCH is answered ${tried.status}`);
    return { url, etag: etag ?? inapplicable("there is no ETag") };
  }

  async restart(url: URL): Promise<x.Answer> {
    const answer = await this.client.patch(url, '"*"', x.fragment([], "nEw1", "conformance0other0pwd0"));
    const bare = answer.status === 412 ? await this.client.patch(url, "*", x.fragment([], "nEw1", "conformance0other0pwd0")) : answer;
    if ([405, 422, 501].includes(bare.status)) inapplicable(`no ICE restarts: PATCH is answered ${bare.status}`);
    need(bare.status === 200, told(bare));
    return bare;
  }
}

export interface Check {
  name: string;
  /** Of RFC 9725; and of draft-ietf-wish-whep, whose sections have names here. Absent: the check is not for that protocol. */
  whip?: string;
  whep?: string;
  run(c: Case): Promise<void>;
}
