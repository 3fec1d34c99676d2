import { readdirSync, readFileSync } from "node:fs";

/** Processes that the process `pid` started. */
export function childrenOf(pid: number): number[] {
  const processes = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return processes.map(Number).filter((each) => {
    try {
      const [, fields = ""] = readFileSync(`/proc/${each}/stat`, "utf8").split(/\) (?=[A-Z] )/);
      return Number(fields.split(" ")[1]) === pid;
    } catch {
      return false; // It has ended meanwhile.
    }
  });
}
