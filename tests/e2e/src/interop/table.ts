// What the interop tests found, and the README's table of it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";

const REPOSITORY = path.resolve(import.meta.dirname, "../../../..");
const README = path.join(REPOSITORY, "README.md");
const RESULTS = path.join(REPOSITORY, "target/interop.json");
const BEGIN = "<!-- interop: written by the end-to-end tests -->";
const END = "<!-- /interop -->";

/** What one client did with the running server, counted. */
export interface Finding {
  client: string;
  version: string;
  way: "publishes" | "plays";
  /** Codecs, as the table shows them. */
  video: string;
  audio: string;
  /** Pictures that were decoded, by the client or by who watched it. */
  pictures: number;
  /** The sound's energy: 0 is silence. */
  energy: number;
}

/** As many as the tests record. */
const FINDINGS = 14;
const findings: Finding[] = [];

export function found(finding: Finding): void {
  findings.push(finding);
  mkdirSync(path.dirname(RESULTS), { recursive: true });
  writeFileSync(RESULTS, JSON.stringify(findings, undefined, 1));
  const { client, version, way, video, audio, pictures, energy } = finding;
  console.log(`  ${client} ${version} ${way}: ${video}, ${audio}: ${pictures} pictures, energy ${energy.toPrecision(2)}`);
}

export function count(): number {
  return findings.length;
}

/** Whether every client has had its turn: a run can be of some tests only. */
export function isComplete(): boolean {
  return count() >= FINDINGS;
}

/** Clients that are tried in a part of their own (`scripts/test gstreamer`). */
export const GSTREAMER = "GStreamer `whipclientsink`, `whepclientsrc`";
const APART = [GSTREAMER];

const HEAD = ["| client | version | publishes (WHIP) | plays (WHEP) |", "| --- | --- | --- | --- |"];

/** One row per client, in the order of the tests. */
function rows(): Map<string, string> {
  const clients = new Map<string, Finding[]>();
  for (const finding of findings) {
    clients.set(finding.client, [...(clients.get(finding.client) ?? []), finding]);
  }
  const cell = (all: Finding[], way: Finding["way"]): string => {
    const codecs = all.filter((finding) => finding.way === way).flatMap(({ video, audio }) => [video, audio]);
    return codecs.length === 0 ? "–" : [...new Set(codecs)].join(", ");
  };
  const row = (client: string, all: Finding[]): string =>
    `| ${client} | ${all[0]?.version ?? ""} | ${cell(all, "publishes")} | ${cell(all, "plays")} |`;
  return new Map([...clients].map(([client, all]) => [client, row(client, all)]));
}

/**
 * Holds the README's table to what the clients did in this run, or writes it anew where that is asked for. A run of `all` leaves the
 * rows of those alone that are tried apart, one of those leaves the others'.
 */
export function settle(run: "all" | "apart"): void {
  const text = readFileSync(README, "utf8");
  const [begin, end] = [text.indexOf(BEGIN) + BEGIN.length, text.indexOf(END)];
  if (begin < BEGIN.length || end < begin) throw new Error(`the README lacks ${BEGIN} … ${END}`);
  const told = text.slice(begin, end).trim().split("\n");
  const found = rows();
  const kept = told.slice(HEAD.length).filter((row) => {
    const client = row.split(" | ")[0]?.replace(/^\| /, "") ?? "";
    return !found.has(client) && (run === "apart" || APART.includes(client));
  });
  const table = run === "all" ? [...HEAD, ...found.values(), ...kept] : [...HEAD, ...kept, ...found.values()];
  if (process.env["SLUICE_README"] === "write") {
    writeFileSync(README, `${text.slice(0, begin)}\n${table.join("\n")}\n${text.slice(end)}`);
    return;
  }
  const part = run === "all" ? "e2e" : "gstreamer";
  const renew = `the README differs from what the clients did: write it anew with SLUICE_README=write scripts/test ${part}`;
  assert.deepEqual(told.map(withoutVersion), table.map(withoutVersion), renew);
}

/** A machine may have another browser than the one the table was last written with. */
function withoutVersion(row: string): string {
  return row.replace(/^(\| [^|]+ \|)[^|]+\|/, "$1 |");
}

/** The installed version of an npm package of this folder. */
export function npmVersion(name: string): string {
  const file = path.join(REPOSITORY, "tests/e2e/node_modules", name, "package.json");
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

/** The locked version of a crate. */
export function crateVersion(name: string): string {
  const lock = readFileSync(path.join(REPOSITORY, "Cargo.lock"), "utf8");
  return new RegExp(`name = "${name}"\nversion = "([^"]+)"`).exec(lock)?.[1] ?? "unknown";
}

/** The first number with points that a program says about itself. */
export function programVersion(program: string, args: string[]): string {
  return /\d+(\.\d+)+/.exec(execFileSync(program, args, { encoding: "utf8" }))?.[0] ?? "unknown";
}
