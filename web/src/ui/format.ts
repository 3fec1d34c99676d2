/** Figures as people read them. A dash stands for what is not known. */

export const UNKNOWN = "–";

function rounded(value: number, digits: number): string {
  return value.toFixed(digits);
}

export function bitrate(kbps: number | null): string {
  if (kbps === null) return UNKNOWN;
  if (kbps >= 1_000) return `${rounded(kbps / 1_000, kbps >= 10_000 ? 0 : 1)} Mb/s`;
  return `${rounded(kbps, 0)} kb/s`;
}

export function milliseconds(ms: number | null): string {
  if (ms === null) return UNKNOWN;
  if (Math.abs(ms) >= 10_000) return `${rounded(ms / 1_000, 1)} s`;
  return `${rounded(ms, Math.abs(ms) < 10 ? 1 : 0)} ms`;
}

export function percent(value: number | null): string {
  if (value === null) return UNKNOWN;
  return `${rounded(value, value > 0 && value < 10 ? 1 : 0)} %`;
}

export function framesPerSecond(fps: number | null): string {
  return fps === null ? UNKNOWN : `${rounded(fps, 0)} fps`;
}

export function size(width: number | null, height: number | null): string {
  return width === null || height === null ? UNKNOWN : `${width} × ${height}`;
}

export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_000;
    unit += 1;
  }
  return `${rounded(value, unit === 0 || value >= 100 ? 0 : 1)} ${units[unit] ?? ""}`;
}

/** `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  if (minutes === 0) return `${seconds} s`;
  if (hours === 0) return `${minutes} min ${seconds % 60} s`;
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`;
}

/** Tokens of user agents that name the browser, the most telling first: Edge and Opera call themselves Chrome too. */
const BROWSERS = [
  ["Edge", /\bEdg\/(\d+)/],
  ["Opera", /\bOPR\/(\d+)/],
  ["Firefox", /\b(?:Firefox|FxiOS)\/(\d+)/],
  ["Chrome", /\b(?:HeadlessChrome|Chrome|CriOS)\/(\d+)/],
  ["Safari", /\bVersion\/(\d+)/],
] as const;

/** A user agent in few words: the browser's name, or the program's own line, cut where it gets long. */
export function shortAgent(agent: string): string {
  if (agent.startsWith("Mozilla/")) {
    for (const [name, pattern] of BROWSERS) {
      const version = pattern.exec(agent)?.[1];
      if (version !== undefined) return `${name} ${version}`;
    }
  }
  return agent.length > 40 ? `${agent.slice(0, 39)}…` : agent;
}

/** A server's remark as a sentence: with a capital, and with an end. */
export function sentence(text: string): string {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(capital) ? capital : `${capital}.`;
}
