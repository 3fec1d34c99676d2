// The command: holds any server to RFC 9725 and draft-ietf-wish-whep, and says what it keeps.

import { parseArgs } from "node:util";
import { hold, type Result, type Target } from "./checks.ts";
import { Client } from "./exchange.ts";

const USAGE = `usage: scripts/conformance [--whip URL] [--whep URL] [--idle URL] [--token TOKEN] [--json]
  --whip   a WHIP endpoint that nobody publishes to
  --whep   a WHEP endpoint whose stream is live
  --idle   a WHEP endpoint whose stream is not live
  --whip-full, --whep-full            an endpoint of a server that has no room
  --whip-elsewhere, --whep-elsewhere  one of a server that has no room and names another node
  --whip-limited, --whep-limited      one of a server that limits how often a client may ask
  --token  bearer token for all of them; or in the environment as SLUICE_CONFORMANCE_TOKEN
Ends with 0 when nothing failed, 1 when something did, 2 when it was called wrongly.`;

const MARKS = { pass: "pass", fail: "FAIL", "not applicable": "n/a " };

async function main(): Promise<number> {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const states = {
    "whip-full": text,
    "whip-elsewhere": text,
    "whip-limited": text,
    "whep-full": text,
    "whep-elsewhere": text,
    "whep-limited": text,
  };
  const options = { whip: text, whep: text, idle: text, token: text, json: flag, help: flag, ...states };
  let json = false;
  const targets: Target[] = [];
  try {
    const { values } = parseArgs({ options });
    json = values.json === true;
    if (values.help === true) {
      console.log(USAGE);
      return 0;
    }
    const client = new Client(values.token ?? process.env["SLUICE_CONFORMANCE_TOKEN"]);
    const url = (text: string | undefined): URL | undefined => (text === undefined ? undefined : new URL(text));
    for (const protocol of ["WHIP", "WHEP"] as const) {
      const name = protocol === "WHIP" ? "whip" : "whep";
      const endpoint = url(values[name]);
      if (endpoint === undefined) continue;
      const [full, elsewhere] = [url(values[`${name}-full`]), url(values[`${name}-elsewhere`])];
      targets.push({ protocol, endpoint, idle: url(values.idle), full, elsewhere, limited: url(values[`${name}-limited`]), client });
    }
    if (targets.length === 0) throw new Error("give --whip or --whep, or both");
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
    return 2;
  }
  const results: Result[] = [];
  for (const target of targets) {
    if (!json) console.log(`\n${target.protocol} ${target.endpoint.href}`);
    for await (const result of hold(target)) {
      results.push(result);
      if (!json) {
        const why = result.why === "" ? "" : `: ${result.why}`;
        console.log(`  ${MARKS[result.outcome]} ${result.name} (${result.section})${why}`);
      }
    }
  }
  const count = (outcome: Result["outcome"]): number => results.filter((result) => result.outcome === outcome).length;
  const failed = count("fail");
  if (json) console.log(JSON.stringify(results));
  else console.log(`\n${count("pass")} passed, ${failed} failed, ${count("not applicable")} not applicable`);
  return failed === 0 ? 0 : 1;
}

process.exitCode = await main();
