// A network beyond a link: browsers live there, and on the way packets are lost, filtered and renumbered as a test says.
//
// `scripts/test` gives these tests a network of their own when it may, so nobody outside meets their doors and no rule made
// here touches anybody else. A far network is held by one process that ends with this one; its end takes links and rules along.

import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readlinkSync } from "node:fs";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { until } from "./wait.ts";

const run = promisify(execFile);

/** Why tests cannot make networks; undefined when they can. */
export const NO_NETWORKS =
  process.env["SLUICE_E2E_NETWORK"] === "own"
    ? undefined
    : "networks are made only within one that is the tests' own: scripts/test makes it, as root";

export interface Link {
  /** This side's address, and the far side's. */
  near: string;
  far: string;
  prefix: number;
  interface: string;
}

/** Addresses of nobody: RFC 2544's for measurements, and a unique local prefix (RFC 4193). */
export const IPV4: Link = { near: "198.18.0.1", far: "198.18.0.2", prefix: 24, interface: "far4" };
export const IPV6: Link = { near: "fd53:4c55:4943::1", far: "fd53:4c55:4943::2", prefix: 64, interface: "far6" };

/** The name of the far network's one interface. */
const FAR_INTERFACE = "eth0";

export type Side = "near" | "far";

/** Arguments of iptables that match a share of packets, at random. */
export function atRandom(probability: number): string[] {
  return ["-m", "statistic", "--mode", "random", "--probability", String(probability)];
}

/** Arguments of iptables that match one packet in so many: the same ones in each run. */
export function oneIn(packets: number): string[] {
  return ["-m", "statistic", "--mode", "nth", "--every", String(packets), "--packet", String(packets - 1)];
}

export class FarNetwork {
  #folder: string | undefined;

  private constructor(
    readonly link: Link,
    readonly holder: ChildProcess,
  ) {}

  static async open(link: Link): Promise<FarNetwork> {
    // Reads until its input ends, which it does with this process, however that ends.
    const holder = spawn("unshare", ["--net", "cat"], { stdio: ["pipe", "ignore", "inherit"] });
    await once(holder, "spawn");
    const far = new FarNetwork(link, holder);
    try {
      const own = readlinkSync("/proc/self/ns/net");
      await until("the far network is there", () => readlinkSync(far.#namespace) !== own, { everyMs: 5 });
      await far.#connect();
    } catch (error) {
      await far.close();
      throw error;
    }
    return far;
  }

  get #namespace(): string {
    return `/proc/${this.holder.pid ?? 0}/ns/net`;
  }

  async #connect(): Promise<void> {
    const { link } = this;
    const nodad = this.isIpv6 ? ["nodad"] : [];
    const holder = String(this.holder.pid);
    const peer = ["peer", "name", FAR_INTERFACE, "netns", holder];
    await run("ip", ["link", "add", link.interface, "type", "veth", ...peer]);
    await run("ip", ["address", "add", `${link.near}/${link.prefix}`, "dev", link.interface, ...nodad]);
    await run("ip", ["link", "set", link.interface, "up"]);
    await this.run("ip", "link", "set", "lo", "up");
    await this.run("ip", "address", "add", `${link.far}/${link.prefix}`, "dev", FAR_INTERFACE, ...nodad);
    await this.run("ip", "link", "set", FAR_INTERFACE, "up");
    // Browsers tell their addresses by the way out.
    await this.run("ip", "route", "add", "default", "via", link.near);
    // Else what one call sends (GSO) would cross as one packet, and be lost as one.
    const whole = ["tx-udp-segmentation", "off"];
    await run("ethtool", ["-K", link.interface, ...whole]);
    await this.run("ethtool", "-K", FAR_INTERFACE, ...whole);
  }

  get isIpv6(): boolean {
    return this.link.near.includes(":");
  }

  /** This side's address as URLs name it. */
  get nearHost(): string {
    return this.isIpv6 ? `[${this.link.near}]` : this.link.near;
  }

  /** The same URL as the far side must write it. */
  reach(url: string): string {
    const { protocol, port, pathname, search } = new URL(url);
    return `${protocol}//${this.nearHost}:${port}${pathname}${search}`;
  }

  /** A command that runs another one over there. */
  get enter(): string[] {
    return ["nsenter", `--net=${this.#namespace}`, "--"];
  }

  /** Runs a command over there; gives what it prints. */
  async run(...command: string[]): Promise<string> {
    const [enter, ...rest] = [...this.enter, ...command];
    return (await run(enter as string, rest)).stdout;
  }

  /** The program, wrapped so that it runs over there. */
  async wrap(program: string): Promise<string> {
    this.#folder ??= await mkdtemp(path.join(tmpdir(), "sluice-far-"));
    const script = path.join(this.#folder, path.basename(program));
    await writeFile(script, `#!/bin/sh\nexec ${this.enter.join(" ")} "${program}" "$@"\n`);
    await chmod(script, 0o755);
    return script;
  }

  /** From now on loses what comes to a side over the link and matches; nothing else that was to be lost there. */
  async lose(side: Side, ...match: string[]): Promise<void> {
    await this.#rules(side, "-F", "PREROUTING");
    await this.#rules(side, "-A", "PREROUTING", "-i", this.#interface(side), ...match, "-j", "DROP");
  }

  async loseNothing(): Promise<void> {
    for (const side of ["near", "far"] as const) await this.#rules(side, "-F", "PREROUTING");
  }

  /** The UDP port that the far side's datagrams seem to come from, as a NAT on the way gives it; the one before is forgotten. */
  async comeFrom(port: number): Promise<void> {
    const nat = ["iptables", "-w", "-t", "nat"];
    await this.run(...nat, "-F", "POSTROUTING");
    const seen = ["-d", this.link.near, "-p", "udp", "-j", "MASQUERADE", "--to-ports", String(port)];
    await this.run(...nat, "-A", "POSTROUTING", ...seen);
    // As a NAT does, or what comes to the far side before it has sent anything would be a connection that has no other address.
    const uninvited = ["INPUT", "-i", FAR_INTERFACE, "-p", "udp", "-m", "conntrack", "--ctstate", "NEW", "-j", "DROP"];
    await this.run("iptables", "-w", "-F", "INPUT");
    await this.run("iptables", "-w", "-A", ...uninvited);
    // Fails when there is none to forget.
    await this.run("conntrack", "-D", "-p", "udp").catch(() => undefined);
  }

  /** The far side has another address from now on, and the one before no more. */
  async moveTo(address: string): Promise<void> {
    await this.run("ip", "address", "flush", "dev", FAR_INTERFACE, "scope", "global");
    await this.run("ip", "address", "add", `${address}/${this.link.prefix}`, "dev", FAR_INTERFACE);
    await this.run("ip", "route", "add", "default", "via", this.link.near);
  }

  /** Whether anything goes out from there. */
  async comesFrom(port: number): Promise<boolean> {
    return (await this.run("conntrack", "-L", "-p", "udp")).includes(`dport=${port} `);
  }

  /** Before connections are tracked and anything else looks at a packet. */
  async #rules(side: Side, ...rule: string[]): Promise<void> {
    const program = this.isIpv6 ? "ip6tables" : "iptables";
    const command = [...(side === "far" ? this.enter : []), program, "-w", "-t", "raw", ...rule];
    await run(command[0] as string, command.slice(1));
  }

  #interface(side: Side): string {
    return side === "far" ? FAR_INTERFACE : this.link.interface;
  }

  /** Ends the network; what still runs in it should have been closed. */
  async close(): Promise<void> {
    if (this.#folder !== undefined) await rm(this.#folder, { recursive: true });
    this.#folder = undefined;
    await run("ip", ["link", "delete", this.link.interface]).catch(() => undefined);
    if (this.holder.exitCode !== null || this.holder.signalCode !== null) return;
    this.holder.kill();
    await once(this.holder, "exit");
  }
}

/** Takes a program's UDP sockets and sets them to send without checksums: from then on the kernel cuts nothing up for them. */
const NO_CHECKSUMS = `
import ctypes, os, socket, sys
SO_NO_CHECK, PIDFD_GETFD = 11, 438
pid = int(sys.argv[1])
process = os.pidfd_open(pid)
for name in os.listdir(f"/proc/{pid}/fd"):
    if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
        continue
    taken = socket.socket(fileno=ctypes.CDLL(None).syscall(PIDFD_GETFD, process, int(name), 0))
    if taken.type == socket.SOCK_DGRAM and taken.family in (socket.AF_INET, socket.AF_INET6):
        taken.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        print(name)
`;

/** Makes the kernel refuse segmentation offload (GSO) to a running program, toward IPv4 addresses. */
export async function refuseOffload(pid: number): Promise<void> {
  const { stdout } = await run("python3", ["-c", NO_CHECKSUMS, String(pid)]);
  if (stdout === "") throw new Error(`process ${pid} has no UDP socket`);
}
