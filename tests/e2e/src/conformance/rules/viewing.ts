// What only a WHEP server has: streams that are not live, counter-offers, events, layers.

import { inapplicable, is4xx, need, told, type Check } from "../check.ts";
import * as x from "../exchange.ts";

const EVENTS = "Server Sent Events extension";
const EVENTS_REL = "urn:ietf:params:whep:ext:core:server-sent-events";
const LAYER_REL = "urn:ietf:params:whep:ext:core:layer";

export const VIEWING: Check[] = [
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
