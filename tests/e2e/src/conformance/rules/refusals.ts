// What a server says that takes no session now: 429, 503, 307. Each needs an endpoint of a server that is in that state.

import { inapplicable, need, told, type Case, type Check } from "../check.ts";
import * as x from "../exchange.ts";

/** Requests after which a server that limits them will have said so. */
const TOO_OFTEN_REQUESTS = 1000;
const BALANCING = "Load Balancing and Redirections";

/** RFC 9110 section 10.2.3: seconds, or a date. */
function saysWhen({ headers }: x.Answer): void {
  const when = headers.get("retry-after") ?? inapplicable("there is no Retry-After, which is the server's to send");
  need(/^\d+$/.test(when) || !Number.isNaN(Date.parse(when)), `Retry-After is ${when}`);
}

/** A newcomer's offer there; a session that comes of it is closed after the check. */
async function ask(c: Case, endpoint: URL): Promise<x.Answer> {
  const answer = await c.client.post(endpoint, x.offer({ direction: c.direction }));
  const location = answer.headers.get("location");
  if (answer.status === 201 && location !== null) c.session(new URL(location, endpoint));
  return answer;
}

export const REFUSALS: Check[] = [
  {
    name: "a server without room answers 503 with Retry-After",
    whip: "4.5",
    whep: BALANCING,
    async run(c) {
      const answer = await ask(c, c.target.full ?? inapplicable("no endpoint of a server without room was given"));
      need(answer.status === 503 && !answer.headers.has("location"), told(answer));
      saysWhen(answer);
    },
  },
  {
    name: "another node is named by 307, never by 301 or 302, and takes the offer",
    whip: "4.5",
    whep: BALANCING,
    async run(c) {
      const endpoint = c.target.elsewhere ?? inapplicable("no endpoint of a server that sends elsewhere was given");
      const answer = await ask(c, endpoint);
      need(answer.status === 307 || answer.status === 308, told(answer));
      const location = answer.headers.get("location");
      if (location === null) throw new Error("there is no Location");
      const there = await ask(c, new URL(location, endpoint));
      need(there.status === 201, `there ${told(there)}`);
    },
  },
  {
    name: "a client that asks too often is answered 429 with Retry-After",
    whip: "RFC 6585 4",
    whep: "RFC 6585 4",
    async run(c) {
      const endpoint = c.target.limited ?? inapplicable("no endpoint of a server with a rate limit was given");
      for (let asked = 0; asked < TOO_OFTEN_REQUESTS; asked += 1) {
        // No offer, so that nothing comes of those that are let through.
        const answer = await c.client.post(endpoint, "this is no offer\r\n");
        if (answer.status !== 429) continue;
        saysWhen(answer);
        return;
      }
      throw new Error(`${TOO_OFTEN_REQUESTS} requests at once are taken`);
    },
  },
];
