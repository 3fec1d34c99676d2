// What the interop tests found, and the README's table of it.

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
const FINDINGS = 13;
const findings: Finding[] = [];

export function found(finding: Finding): void {
  findings.push(finding);
  mkdirSync(path.dirname(RESULTS), { recursive: true });
  writeFileSync(RESULTS, JSON.stringify(findings, undefined, 1));
  const { client, version, way, video, audio, pictures, energy } = finding;
  console.log(`  ${client} ${version} ${way}: ${video}, ${audio}: ${pictures} pictures, energy ${energy.toPrecision(2)}`);
}

/** Whether every client has had its turn: a run can be of some tests only. */
export function isComplete(): boolean {
  return findings.length >= FINDINGS;
}

/** The rows in the order of the tests, one per client. */
export function table(): string {
  const clients = new Map<string, Finding[]>();
  for (const finding of findings) {
    clients.set(finding.client, [...(clients.get(finding.client) ?? []), finding]);
  }
  const cell = (all: Finding[], way: Finding["way"]): string => {
    const codecs = all.filter((finding) => finding.way === way).flatMap(({ video, audio }) => [video, audio]);
    return codecs.length === 0 ? "–" : [...new Set(codecs)].join(", ");
  };
  const rows = [...clients].map(([client, all]) => {
    return `| ${client} | ${all[0]?.version ?? ""} | ${cell(all, "publishes")} | ${cell(all, "plays")} |`;
  });
  return ["| client | version | publishes (WHIP) | plays (WHEP) |", "| --- | --- | --- | --- |", ...rows].join("\n");
}

/** The README's table, and the README with the table of this run in its place. */
export function readme(): { told: string; renewed: string } {
  const text = readFileSync(README, "utf8");
  const [begin, end] = [text.indexOf(BEGIN) + BEGIN.length, text.indexOf(END)];
  if (begin < BEGIN.length || end < begin) throw new Error(`the README lacks ${BEGIN} … ${END}`);
  const told = text.slice(begin, end).trim();
  return { told, renewed: `${text.slice(0, begin)}\n${table()}\n${text.slice(end)}` };
}

export function write(text: string): void {
  writeFileSync(README, text);
}

/** A machine may have another browser than the one the table was last written with. */
export function withoutVersions(rows: string): string {
  return rows.replaceAll(/^(\| [^|]+ \|)[^|]+\|/gm, "$1 |");
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
