// What the rest of HTTP has to do with it: GET, HEAD, OPTIONS, other sites' pages, Links, tokens.

import { inapplicable, need, told, type Check } from "../check.ts";
import * as x from "../exchange.ts";

const CANDIDATE = "candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host";

export const WEB: Check[] = [
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
];

function preflightOf(method: string): Record<string, string> {
  return {
    origin: "https://elsewhere.example",
    "access-control-request-method": method,
    "access-control-request-headers": "authorization,content-type,if-match",
  };
}
