// The command: holds any server to RFC 9725 and draft-ietf-wish-whep, and says what it keeps.

import { parseArgs } from "node:util";
import { hold, type Result, type Target } from "./checks.ts";
import { Client } from "./exchange.ts";

const USAGE = `usage: scripts/conformance [--whip URL] [--whep URL] [--idle URL] [--token TOKEN] [--json]
  --whip   a WHIP endpoint that nobody publishes to
  --whep   a WHEP endpoint whose stream is live
  --idle   a WHEP endpoint whose stream is not live
  --token  bearer token for all of them; or in the environment as SLUICE_CONFORMANCE_TOKEN
Ends with 0 when nothing failed, 1 when something did, 2 when it was called wrongly.`;

const MARKS = { pass: "pass", fail: "FAIL", "not applicable": "n/a " };

async function main(): Promise<number> {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const options = { whip: text, whep: text, idle: text, token: text, json: flag, help: flag };
  let values: { whip?: string; whep?: string; idle?: string; token?: string; json?: boolean; help?: boolean };
  const targets: Target[] = [];
  try {
    values = parseArgs({ options }).values;
    if (values.help === true) {
      console.log(USAGE);
      return 0;
    }
    const client = new Client(values.token ?? process.env["SLUICE_CONFORMANCE_TOKEN"]);
    const idle = values.idle === undefined ? undefined : new URL(values.idle);
    if (values.whip !== undefined) targets.push({ protocol: "WHIP", endpoint: new URL(values.whip), client });
    if (values.whep !== undefined) targets.push({ protocol: "WHEP", endpoint: new URL(values.whep), idle, client });
    if (targets.length === 0) throw new Error("give --whip or --whep, or both");
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
    return 2;
  }
  const results: Result[] = [];
  for (const target of targets) {
    if (values.json !== true) console.log(`\n${target.protocol} ${target.endpoint.href}`);
    for await (const result of hold(target)) {
      results.push(result);
      if (values.json !== true) {
        const why = result.why === "" ? "" : `: ${result.why}`;
        console.log(`  ${MARKS[result.outcome]} ${result.name} (${result.section})${why}`);
      }
    }
  }
  const count = (outcome: Result["outcome"]): number => results.filter((result) => result.outcome === outcome).length;
  const failed = count("fail");
  if (values.json === true) console.log(JSON.stringify(results));
  else console.log(`\n${count("pass")} passed, ${failed} failed, ${count("not applicable")} not applicable`);
  return failed === 0 ? 0 : 1;
}

process.exitCode = await main();
