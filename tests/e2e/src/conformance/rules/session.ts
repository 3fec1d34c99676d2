// How a session begins and ends: the offer, the answer, what is refused, DELETE.

import { inapplicable, is4xx, need, told, type Check } from "../check.ts";
import * as x from "../exchange.ts";

const SETUP = "Playback Session Set Up";
const PATCHING = "HTTP PATCH Request Usage";

export const SESSION: Check[] = [
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
];
