// What RFC 9725 and draft-ietf-wish-whep ask of a server, one check per rule, over HTTP alone: no media flows.

import { Case, NotApplicable, type Check, type Result, type Target } from "./check.ts";
import { ICE } from "./rules/ice.ts";
import { REFUSALS } from "./rules/refusals.ts";
import { SESSION } from "./rules/session.ts";
import { VIEWING } from "./rules/viewing.ts";
import { WEB } from "./rules/web.ts";

export type { Result, Target } from "./check.ts";

const CHECKS: Check[] = [...SESSION, ...ICE, ...WEB, ...VIEWING, ...REFUSALS];

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
