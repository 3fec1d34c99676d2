// PATCH with ICE's fragments: more candidates, restarts.

import { is4xx, need, told, type Check } from "../check.ts";
import * as x from "../exchange.ts";

const CANDIDATE = "candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host";
const UNRESOLVABLE = "candidate:1 1 udp 2122260223 8f2c0f1e-3b1c-4a59-9d5e-6d1d0c6d2f2a.local 61764 typ host";
const PATCHING = "HTTP PATCH Request Usage";

export const ICE: Check[] = [
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
];
