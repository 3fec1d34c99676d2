// What RFC 9725 and draft-ietf-wish-whep ask of a server, one check per rule, over HTTP alone: no media flows.

import * as x from "./exchange.ts";

/** Where the checks are held to: endpoints of streams, the WHEP one's live if its sessions are to be checked. */
export interface Target {
  protocol: "WHIP" | "WHEP";
  endpoint: URL;
  /** A WHEP endpoint of a stream that is not live. */
  idle?: URL | undefined;
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
class NotApplicable extends Error {}
const inapplicable = (why: string): never => {
  throw new NotApplicable(why);
};
function need(holds: boolean, why: string): void {
  if (!holds) throw new Error(why);
}
const is4xx = ({ status }: x.Answer): boolean => status >= 400 && status < 500;
const told = ({ status, body }: x.Answer): string => `the answer is ${status} ${body.slice(0, 160).replaceAll(/\s+/g, " ")}`;

interface Session {
  url: URL;
  etag: string | undefined;
  answer: x.Answer;
}

/** One check's view of the target; sessions it opens are closed after it. */
class Case {
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

interface Check {
  name: string;
  /** Of RFC 9725; and of draft-ietf-wish-whep, whose sections have names here. Absent: the check is not for that protocol. */
  whip?: string;
  whep?: string;
  run(c: Case): Promise<void>;
}

const CANDIDATE = "candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host";
const UNRESOLVABLE = "candidate:1 1 udp 2122260223 8f2c0f1e-3b1c-4a59-9d5e-6d1d0c6d2f2a.local 61764 typ host";
const SETUP = "Playback Session Set Up";
const PATCHING = "HTTP PATCH Request Usage";
const EVENTS = "Server Sent Events extension";
const EVENTS_REL = "urn:ietf:params:whep:ext:core:server-sent-events";
const LAYER_REL = "urn:ietf:params:whep:ext:core:layer";

export const CHECKS: Check[] = [
  {
    name: "POST of an offer is answered 201 with an SDP answer",
    whip: "4.2",
    whep: SETUP,
    async run(c) {
      const { answer } = await c.open();
      need(/^application\/sdp\b/i.test(answer.headers.get("content-type") ?? ""), "the Content-Type is not application/sdp");
      need(answer.body.startsWith("v=0"), "the body is no SDP");
    },
  },
  {
    name: "the Location is one that nobody can guess",
    whip: "5",
    whep: "Security Considerations",
    async run(c) {
      const [one, other] = [await c.open(), await c.open()];
      need(one.url.href !== other.url.href, "two sessions have one URL");
      const secret = one.url.pathname.split("/").at(-1) ?? "";
      need(secret.replaceAll("-", "").length >= 22, `${secret} is short of 122 random bits`);
    },
  },
  {
    name: "201 has a strong entity tag",
    whip: "4.3.1",
    whep: PATCHING,
    async run(c) {
      const { etag } = await c.open();
      need(/^"[^"]+"$/.test(etag ?? inapplicable("there is no ETag, which is optional without ICE restarts")), `${etag} is not strong`);
    },
  },
  {
    name: "the answer has the other direction in every section",
    whip: "4.2",
    whep: "Media Direction Attributes",
    async run(c) {
      const { answer } = await c.open();
      const wanted = c.direction === "sendonly" ? "recvonly" : "sendonly";
      const all = x.sections(answer.body);
      need(all.length === 2 && all.every((section) => section.includes(`\na=${wanted}\r\n`)), `not every section is ${wanted}`);
    },
  },
  {
    name: "sendrecv is taken too",
    whip: "4.2",
    whep: "Media Direction Attributes",
    async run(c) {
      await c.open({ direction: "sendrecv" });
    },
  },
  {
    name: "a direction that is forbidden is refused",
    whip: "4.2",
    whep: "Media Direction Attributes",
    async run(c) {
      for (const direction of [c.direction === "sendonly" ? "recvonly" : "sendonly", "inactive"] as const) {
        const answer = await c.post({ direction });
        need(is4xx(answer), `${direction}: ${told(answer)}`);
      }
    },
  },
  {
    name: "all sections are bundled, with RTCP on the same transport",
    whip: "4.4.1",
    whep: "SDP Bundle",
    async run(c) {
      const { answer } = await c.open();
      need(/^a=group:BUNDLE 0 1\r$/m.test(answer.body), "no a=group:BUNDLE 0 1");
      need(x.sections(answer.body).every((section) => /^a=rtcp-mux\r$/m.test(section)), "a section has no a=rtcp-mux");
    },
  },
  {
    name: "every section says that RTCP has no transport of its own (rtcp-mux-only)",
    whip: "4.4.1",
    whep: "SDP Bundle",
    async run(c) {
      const { answer } = await c.open();
      need(x.sections(answer.body).every((section) => /^a=rtcp-mux-only\r$/m.test(section)), "a section has no a=rtcp-mux-only");
    },
  },
  {
    name: "the answer chooses a DTLS role",
    whip: "4.4.4",
    whep: SETUP,
    async run(c) {
      const { answer } = await c.open();
      need(/^a=setup:(active|passive)\r$/m.test(answer.body), "no a=setup:active or passive");
    },
  },
  {
    name: "a client that can only be the DTLS client is taken or refused, never left alone",
    whip: "4.4.4",
    async run(c) {
      const answer = await c.post({ setup: "active" });
      need(answer.status === 201 ? /^a=setup:passive\r$/m.test(answer.body) : is4xx(answer), told(answer));
    },
  },
  {
    name: "the answer has all candidates of the server",
    whip: "4.3.2",
    whep: "Trickle ICE",
    async run(c) {
      const { answer } = await c.open();
      need(/^a=candidate:/m.test(answer.body), "no a=candidate");
    },
  },
  {
    name: "all sections are of one media stream",
    whep: "Single MediaStream",
    async run(c) {
      const { answer } = await c.open();
      const streams = x.sections(answer.body).map((section) => /^a=msid:(\S+)/m.exec(section)?.[1]);
      need(streams.every((stream) => stream !== undefined && stream === streams[0]), `a=msid of ${streams.join(" and ")}`);
    },
  },
  {
    name: "a parameter of the content type does no harm",
    whip: "4.2",
    whep: SETUP,
    async run(c) {
      await c.open();
      const answer = await c.post({}, { "content-type": "application/sdp; charset=utf-8" });
      need(answer.status === 201, told(answer));
    },
  },
  {
    name: "another content type is refused",
    whip: "4.2",
    whep: "Error Conditions",
    async run(c) {
      const answer = await c.post({}, { "content-type": "text/plain" });
      need(is4xx(answer), told(answer));
    },
  },
  {
    name: "what is no SDP is refused",
    whip: "4.2",
    whep: "Error Conditions",
    async run(c) {
      const answer = await c.client.post(c.endpoint, "this is no offer\r\n");
      need(is4xx(answer), told(answer));
    },
  },
  {
    name: "two tracks of one kind are refused with 400 or 422",
    whip: "4.4.2",
    async run(c) {
      const answer = await c.post({ videos: 2 });
      need(answer.status === 400 || answer.status === 422, told(answer));
    },
  },
  {
    name: "an offer without a common codec is refused as a whole",
    whip: "4.4.3",
    async run(c) {
      const answer = await c.post({ unheardOf: true });
      need(is4xx(answer), told(answer));
    },
  },
  {
    name: "simulcast is answered with what is received of it",
    whip: "4.8",
    async run(c) {
      const { answer } = await c.open({ simulcast: true });
      if (!/^a=simulcast:/m.test(answer.body)) inapplicable("the server takes one encoding");
      need(/^a=simulcast:recv /m.test(answer.body) && /^a=rid:h recv\r$/m.test(answer.body), "no a=simulcast:recv with a=rid:h recv");
    },
  },
  {
    name: "more candidates are answered 204, without a body or an ETag",
    whip: "4.3.2",
    whep: "Trickle ICE",
    async run(c) {
      const { url, etag } = await c.patchable();
      const answer = await c.client.patch(url, etag, x.fragment([CANDIDATE]));
      need(answer.status === 204 && answer.body === "" && !answer.headers.has("etag"), told(answer));
    },
  },
  {
    name: "a candidate that cannot be resolved is no error",
    whip: "4.3.2",
    whep: "Trickle ICE",
    async run(c) {
      const { url, etag } = await c.patchable();
      const answer = await c.client.patch(url, etag, x.fragment([UNRESOLVABLE, CANDIDATE]));
      need(answer.status === 204, told(answer));
    },
  },
  {
    name: "PATCH without If-Match is answered 428, with an old one 412",
    whip: "4.3.1",
    whep: PATCHING,
    async run(c) {
      const { url } = await c.patchable();
      const [missing, old] = [
        await c.client.patch(url, undefined, x.fragment([CANDIDATE])),
        await c.client.patch(url, '"of-another-session"', x.fragment([CANDIDATE])),
      ];
      need(missing.status === 428, `without: ${told(missing)}`);
      need(old.status === 412, `with an old one: ${told(old)}`);
    },
  },
  {
    name: "PATCH of another type, or malformed, is refused",
    whip: "4.3.1",
    whep: PATCHING,
    async run(c) {
      const { url, etag } = await c.patchable();
      for (const answer of [
        await c.client.patch(url, etag, x.fragment([CANDIDATE]), "text/plain"),
        await c.client.patch(url, etag, "a=candidate:nonsense\r\nthis is no fragment"),
      ]) {
        need(is4xx(answer), told(answer));
      }
    },
  },
  {
    name: "an ICE restart is answered 200 with new credentials and a new ETag; the old one is void",
    whip: "4.3.3",
    whep: "ICE Restarts",
    async run(c) {
      const { url, etag } = await c.patchable();
      const answer = await c.restart(url);
      need((answer.headers.get("content-type") ?? "").startsWith(x.FRAGMENT), "the body is no fragment");
      need(/^a=ice-ufrag:\S+/m.test(answer.body) && /^a=ice-pwd:\S+/m.test(answer.body), "the fragment has no credentials");
      const renewed = answer.headers.get("etag");
      need(renewed !== null && renewed !== etag, `the ETag is ${renewed}, was ${etag}`);
      const old = await c.client.patch(url, etag, x.fragment([CANDIDATE], "nEw1", "conformance0other0pwd0"));
      need(old.status === 412, `the old ETag: ${told(old)}`);
    },
  },
  {
    name: "DELETE ends the session, whatever If-Match says; after it there is none",
    whip: "4.2",
    whep: "Playback Session Termination",
    async run(c) {
      const { url } = await c.open();
      const answer = await c.client.ask("DELETE", url, { headers: { "if-match": '"of-another-session"' } });
      need(answer.status === 200, told(answer));
      const again = await c.client.ask("DELETE", url);
      need(again.status === 404, `again: ${told(again)}`);
    },
  },
  {
    name: "GET is answered with success and nothing else",
    whip: "4.1",
    whep: "HTTP Usage",
    async run(c) {
      const { url } = await c.open();
      for (const resource of [c.endpoint, url]) {
        const { status, body } = await c.client.ask("GET", resource);
        need(status >= 200 && status < 300 && body === "", `${resource.pathname} is answered ${status} with ${body.length} bytes`);
      }
    },
  },
  {
    name: "HEAD says that this is a WHEP endpoint",
    whep: "WHEP Endpoint URL Discoverability",
    async run(c) {
      const { status, headers } = await c.client.ask("HEAD", c.endpoint);
      need(status === 200 && (headers.get("content-type") ?? "").startsWith(x.SDP), `${status}, ${headers.get("content-type")}`);
    },
  },
  {
    name: "OPTIONS is answered 200 with Accept-Post, and pages of other sites may ask",
    whip: "4.2",
    whep: "Playback Session Termination",
    async run(c) {
      const { url } = await c.open();
      const own = await c.client.ask("OPTIONS", c.endpoint);
      need(own.status === 200, told(own));
      need((own.headers.get("accept-post") ?? "").includes(x.SDP), `Accept-Post is ${own.headers.get("accept-post")}`);
      for (const [resource, method] of [[c.endpoint, "POST"], [url, "PATCH"], [url, "DELETE"]] as const) {
        const preflight = await c.client.ask("OPTIONS", resource, { anonymous: true, headers: preflightOf(method) });
        need(preflight.status === 200 || preflight.status === 204, `preflight of ${method}: ${told(preflight)}`);
        need(preflight.headers.has("access-control-allow-origin"), `preflight of ${method}: no Access-Control-Allow-Origin`);
        const allowed = preflight.headers.get("access-control-allow-methods") ?? "";
        need(allowed === "*" || allowed.includes(method), `preflight of ${method}: allowed are ${allowed}`);
      }
    },
  },
  {
    name: "a preflight is told no ICE servers",
    whip: "4.6",
    async run(c) {
      const preflight = await c.client.ask("OPTIONS", c.endpoint, { anonymous: true, headers: preflightOf("POST") });
      need(!x.links(preflight.headers).some(({ rel }) => rel === "ice-server"), "the preflight has Link of ice-server");
    },
  },
  {
    name: "ICE servers and extensions are told in well-formed Links",
    whip: "4.6, 4.9",
    whep: "Protocol Extensions",
    async run(c) {
      const { answer } = await c.open();
      const all = x.links(answer.headers);
      if (all.length === 0) inapplicable("there is no Link");
      const prefix = `urn:ietf:params:${c.target.protocol.toLowerCase()}:ext:`;
      for (const { target, rel } of all) {
        const fits = rel === "ice-server" ? /^(stun|turn)s?:/.test(target) : rel.startsWith(prefix);
        need(fits, `<${target}>; rel="${rel}"`);
      }
    },
  },
  {
    name: "a page may read Location, ETag and Link",
    whip: "4.2",
    whep: "Playback Session Termination",
    async run(c) {
      await c.open();
      const answer = await c.post({}, { origin: "https://elsewhere.example" });
      const exposed = (answer.headers.get("access-control-expose-headers") ?? "").toLowerCase();
      const missing = ["location", "etag", "link"].filter((name) => exposed !== "*" && !exposed.includes(name));
      need(missing.length === 0, `not exposed: ${missing.join(", ")}`);
    },
  },
  {
    name: "without a token, nothing may be opened, changed or ended",
    whip: "4.7.1",
    whep: "Bearer Token Authentication",
    async run(c) {
      if (c.client.token === undefined) inapplicable("no --token was given");
      const { url, etag } = await c.open();
      const headers = { "content-type": x.SDP };
      const post = await c.client.ask("POST", c.endpoint, { headers, body: x.offer({ direction: c.direction }), anonymous: true });
      need(post.status === 401 && post.headers.has("www-authenticate"), `POST: ${told(post)}`);
      const trickle = { "content-type": x.FRAGMENT, "if-match": etag ?? "*" };
      const patch = await c.client.ask("PATCH", url, { headers: trickle, body: x.fragment([CANDIDATE]), anonymous: true });
      need(patch.status === 401, `PATCH: ${told(patch)}`);
      const ended = await c.client.ask("DELETE", url, { anonymous: true });
      need(ended.status === 401, `DELETE: ${told(ended)}`);
    },
  },
  {
    name: "a stream that is not live is answered 409 with Retry-After, or waited for",
    whep: "Session Management",
    async run(c) {
      const idle = c.target.idle ?? inapplicable("no --idle was given");
      const answer = await c.client.post(idle, x.offer({ direction: "recvonly" }));
      if (answer.status === 201) c.session(new URL(answer.headers.get("location") ?? "", idle));
      else need(answer.status === 409 && /^\d+$/.test(answer.headers.get("retry-after") ?? ""), told(answer));
    },
  },
  {
    name: "an offer that cannot carry the stream is refused, or countered with an offer that PATCH completes",
    whep: "Server Sends Counter-Offer",
    async run(c) {
      await c.open();
      const answer = await c.post({ unheardOf: true });
      need(is4xx(answer), told(answer));
      if (!(answer.headers.get("content-type") ?? "").startsWith(x.SDP)) inapplicable("the server makes no counter-offers");
      need(answer.status === 406, told(answer));
      const location = answer.headers.get("location");
      if (location === null) throw new Error("the counter-offer has no Location");
      const directions = x.sections(answer.body).map((section) => /^a=(sendonly|sendrecv|recvonly|inactive)\r$/m.exec(section)?.[1]);
      need(directions.every((way) => way === "sendonly" || way === "sendrecv"), `its directions are ${directions.join(", ")}`);
      const url = new URL(location, c.endpoint);
      const malformed = await c.client.patch(url, undefined, "this is no answer\r\n", x.SDP);
      need(is4xx(malformed), `a malformed answer: ${told(malformed)}`);
      const completed = await c.client.patch(url, undefined, x.acceptance(answer.body), x.SDP);
      need(completed.status === 204, `the answer to it: ${told(completed)}`);
    },
  },
  {
    name: "events: a stream is made by POST, read as text/event-stream, ended by DELETE; unknown types are refused",
    whep: EVENTS,
    async run(c) {
      const { answer } = await c.open();
      const link = x.links(answer.headers).find(({ rel }) => rel === EVENTS_REL) ?? inapplicable("events are not offered");
      const url = new URL(link.target, c.endpoint);
      const headers = { "content-type": "application/json" };
      const unknown = await c.client.ask("POST", url, { headers, body: '["no-such-event"]' });
      need(unknown.status === 400, `an unknown type: ${told(unknown)}`);
      const made = await c.client.ask("POST", url, { headers, body: '["active","inactive"]' });
      need(made.status === 201 && made.headers.has("location"), told(made));
      const stream = new URL(made.headers.get("location") ?? "", url);
      const read = await c.client.open(stream);
      need(read.status === 200 && read.type.startsWith("text/event-stream"), `the stream is answered ${read.status} ${read.type}`);
      const ended = await c.client.ask("DELETE", stream);
      need(ended.status >= 200 && ended.status < 300, `DELETE: ${told(ended)}`);
      const after = await c.client.ask("GET", stream);
      need(after.status === 404, `after DELETE: ${told(after)}`);
    },
  },
  {
    name: "layers: offered only with events of them; the automatic choice is taken, an unknown rid is refused",
    whep: "Video Layer Selection extension",
    async run(c) {
      const { answer } = await c.open();
      const all = x.links(answer.headers);
      const link = all.find(({ rel }) => rel === LAYER_REL) ?? inapplicable("layers are not offered");
      need(all.some(({ rel, attributes }) => rel === EVENTS_REL && attributes.includes("layers")), "there are no events of layers");
      const url = new URL(link.target, c.endpoint);
      const headers = { "content-type": "application/json" };
      const automatic = await c.client.ask("POST", url, { headers, body: "{}" });
      need(automatic.status === 200, told(automatic));
      const unknown = await c.client.ask("POST", url, { headers, body: '{"rid":"no-such-rid"}' });
      need(is4xx(unknown), `an unknown rid: ${told(unknown)}`);
    },
  },
];

function preflightOf(method: string): Record<string, string> {
  return {
    origin: "https://elsewhere.example",
    "access-control-request-method": method,
    "access-control-request-headers": "authorization,content-type,if-match",
  };
}

/** All checks of the target's protocol, one after the other. */
export async function* hold(target: Target): AsyncGenerator<Result> {
  for (const { name, whip, whep, run } of CHECKS) {
    const section = target.protocol === "WHIP" ? whip : whep;
    if (section === undefined) continue;
    const result: Result = { protocol: target.protocol, name, section, outcome: "pass", why: "" };
    const c = new Case(target);
    try {
      await run(c);
    } catch (error) {
      result.outcome = error instanceof NotApplicable ? "not applicable" : "fail";
      result.why = error instanceof Error ? error.message : String(error);
    }
    for (const url of c.opened) await c.client.ask("DELETE", url).catch(() => undefined);
    yield result;
  }
}
