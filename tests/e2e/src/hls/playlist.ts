// Media playlists, read to the letter of RFC 8216bis: what is not understood is a fault.

export interface Part {
  uri: string;
  seconds: number;
  independent: boolean;
}

export interface Segment {
  number: number;
  /** Discontinuity sequence number. */
  discontinuity: number;
  map: string;
  /** Milliseconds since the epoch. */
  programTimeMs: number | undefined;
  parts: Part[];
  /** Undefined while it grows. */
  uri: string | undefined;
  seconds: number | undefined;
}

export interface Playlist {
  text: string;
  version: number;
  target: number;
  partTarget: number;
  partHoldBack: number;
  canSkipUntil: number;
  mediaSequence: number;
  skipped: number;
  segments: Segment[];
  hint: string | undefined;
  reports: { uri: string; lastMsn: number; lastPart: number }[];
  ended: boolean;
  faults: string[];
}

/** Attributes of a tag (section 4.2). */
export function attributes(text: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const [, name, quoted, bare] of text.matchAll(/([A-Z0-9-]+)=(?:"([^"]*)"|([^",]*))(?:,|$)/g)) {
    found.set(name as string, quoted ?? bare ?? "");
  }
  return found;
}

/** What stands in a playlist. A delta update lacks its first `skipped` segments. */
export function read(text: string): Playlist {
  const playlist: Playlist = {
    ...{ text, version: 0, target: 0, partTarget: 0, partHoldBack: 0, canSkipUntil: 0, mediaSequence: 0, skipped: 0 },
    ...{ segments: [], hint: undefined, reports: [], ended: false, faults: [] },
  };
  const fault = (what: string): void => void playlist.faults.push(what);
  const lines = text.split("\n");
  if (lines.pop() !== "") fault("the last line has no end");
  if (lines[0] !== "#EXTM3U") fault("the first line is not #EXTM3U");
  let discontinuity = 0;
  let map = "";
  let next: Segment | undefined;
  let seconds: number | undefined;
  const growing = (): Segment => {
    const number = playlist.mediaSequence + playlist.skipped + playlist.segments.length;
    next ??= { number, discontinuity, map, programTimeMs: undefined, parts: [], uri: undefined, seconds: undefined };
    return next;
  };
  for (const line of lines.slice(1)) {
    const [tag, rest] = line.startsWith("#") ? [line.split(":")[0] as string, line.slice(line.indexOf(":") + 1)] : ["", line];
    const of = attributes(rest);
    const number = (name: string): number => Number(of.get(name) ?? Number.NaN);
    if (tag === "#EXT-X-VERSION") playlist.version = Number(rest);
    else if (tag === "#EXT-X-TARGETDURATION") playlist.target = Number(rest);
    else if (tag === "#EXT-X-PART-INF") playlist.partTarget = number("PART-TARGET");
    else if (tag === "#EXT-X-MEDIA-SEQUENCE") playlist.mediaSequence = Number(rest);
    else if (tag === "#EXT-X-DISCONTINUITY-SEQUENCE") discontinuity = Number(rest);
    else if (tag === "#EXT-X-SKIP") playlist.skipped = number("SKIPPED-SEGMENTS");
    else if (tag === "#EXT-X-SERVER-CONTROL") {
      if (of.get("CAN-BLOCK-RELOAD") !== "YES") fault("CAN-BLOCK-RELOAD is not YES");
      playlist.partHoldBack = number("PART-HOLD-BACK");
      playlist.canSkipUntil = number("CAN-SKIP-UNTIL");
    } else if (tag === "#EXT-X-DISCONTINUITY") {
      if (next !== undefined) fault(`a discontinuity within segment ${growing().number}`);
      discontinuity += 1;
    } else if (tag === "#EXT-X-MAP") {
      if (next !== undefined) fault(`a map within segment ${growing().number}`);
      map = of.get("URI") ?? "";
    } else if (tag === "#EXT-X-PROGRAM-DATE-TIME") growing().programTimeMs = Date.parse(rest);
    else if (tag === "#EXT-X-PART") {
      growing().parts.push({ uri: of.get("URI") ?? "", seconds: number("DURATION"), independent: of.get("INDEPENDENT") === "YES" });
    } else if (tag === "#EXTINF") seconds = Number(rest.replace(/,$/, ""));
    else if (tag === "") {
      playlist.segments.push({ ...growing(), uri: rest, seconds });
      if (seconds === undefined) fault(`segment ${growing().number} has no EXTINF`);
      next = seconds = undefined;
    } else if (tag === "#EXT-X-PRELOAD-HINT") {
      if (playlist.hint !== undefined || of.get("TYPE") !== "PART") fault(`a second hint, or of another type: ${line}`);
      playlist.hint = of.get("URI");
    } else if (tag === "#EXT-X-RENDITION-REPORT") {
      playlist.reports.push({ uri: of.get("URI") ?? "", lastMsn: number("LAST-MSN"), lastPart: number("LAST-PART") });
    } else if (tag === "#EXT-X-ENDLIST") playlist.ended = true;
    else fault(`an unknown line: ${line}`);
  }
  if (next !== undefined) playlist.segments.push(next);
  return playlist;
}

/** What a player makes of a delta update, with the playlist it had (section 6.3.7): the whole again. */
export function merge(before: Playlist, delta: Playlist): Segment[] {
  const from = delta.mediaSequence;
  const old = before.segments.filter(({ number }) => number >= from && number < from + delta.skipped);
  const map = old.at(-1)?.map ?? "";
  const shift = (old.at(-1)?.discontinuity ?? 0) - 0;
  const first = delta.segments[0];
  // Discontinuities and the map of what was skipped are known from before.
  const known = first === undefined ? 0 : shift - firstDiscontinuity(delta);
  const rest = delta.segments.map((segment) => ({
    ...segment,
    map: segment.map === "" ? map : segment.map,
    discontinuity: segment.discontinuity + (delta.skipped > 0 ? known : 0),
  }));
  return [...old, ...rest];
}

/** The number that a playlist begins to count at. */
function firstDiscontinuity({ text }: Playlist): number {
  return Number(/#EXT-X-DISCONTINUITY-SEQUENCE:(\d+)/.exec(text)?.[1] ?? 0);
}

/** What is wrong with a playlist by itself. */
export function faults(playlist: Playlist): string[] {
  const found = [...playlist.faults];
  const { target, partTarget, segments } = playlist;
  const must = (is: boolean, what: string): void => void (is || found.push(what));
  must(playlist.version >= 9, `version ${playlist.version}`);
  must(Number.isInteger(target) && target > 0, `target duration ${target}`);
  must(playlist.partHoldBack >= 3 * partTarget, `PART-HOLD-BACK ${playlist.partHoldBack} of parts of ${partTarget}`);
  must(playlist.canSkipUntil >= 6 * target, `CAN-SKIP-UNTIL ${playlist.canSkipUntil} of ${target}`);
  // Nothing is hinted while nobody publishes: then the last segment is whole.
  must(playlist.ended || playlist.hint !== undefined || segments.at(-1)?.uri !== undefined, "no hint");
  let fromEnd = segments.reduce((sum, segment) => sum + length(segment), 0);
  for (const [at, segment] of segments.entries()) {
    const name = `segment ${segment.number}`;
    must(segment.map !== "" || playlist.skipped > 0, `${name} has no map`);
    must(segment.programTimeMs !== undefined, `${name} has no program time`);
    must(segment.uri !== undefined || at === segments.length - 1, `${name} grows, and is not the last`);
    const seconds = segment.seconds ?? length(segment);
    must(Math.round(seconds) <= target, `${name} lasts ${seconds} s of ${target}`);
    if (segment.parts.length > 0) {
      must(segment.parts[0]?.independent === true, `${name} does not begin with an independent part`);
      must(Math.abs(length(segment) - sum(segment.parts)) < 0.001, `${name} lasts ${seconds} s, its parts ${sum(segment.parts)}`);
    }
    must(segment.parts.length > 0 || fromEnd > 3 * target - 0.001, `${name} has no parts ${fromEnd} s from the end`);
    must(segment.parts.length === 0 || fromEnd - length(segment) <= 3 * target, `${name} has parts ${fromEnd} s from the end`);
    for (const [index, part] of segment.parts.entries()) {
      const isLast = segment.uri !== undefined && index === segment.parts.length - 1;
      must(part.seconds <= partTarget + 0.000_01, `${name}, part ${index} lasts ${part.seconds} s of ${partTarget}`);
      const least = 0.85 * partTarget;
      must(isLast || part.seconds >= least || segment.uri === undefined, `${name}, part ${index} lasts ${part.seconds} s of ${partTarget}`);
    }
    const after = segments[at + 1];
    if (after?.discontinuity === segment.discontinuity && segment.programTimeMs !== undefined && segment.seconds !== undefined) {
      const jumpMs = (after.programTimeMs ?? 0) - segment.programTimeMs - 1000 * segment.seconds;
      must(Math.abs(jumpMs) < 250, `program time jumps by ${jumpMs} ms behind ${name}`);
    }
    fromEnd -= length(segment);
  }
  return found;
}

export function length(segment: Segment): number {
  return segment.seconds ?? sum(segment.parts);
}

function sum(parts: Part[]): number {
  return parts.reduce((seconds, part) => seconds + part.seconds, 0);
}

/** What a playlist changed that it may not (section 6.2.1). */
export function changes(before: Playlist, after: Playlist): string[] {
  const found: string[] = [];
  if (after.mediaSequence < before.mediaSequence) found.push(`the media sequence went back to ${after.mediaSequence}`);
  if (after.target < before.target) found.push(`the target duration shrank to ${after.target}`);
  if (after.version !== before.version) found.push(`version ${after.version}`);
  const now = new Map(after.segments.map((segment) => [segment.number, segment]));
  for (const segment of before.segments.filter(({ number }) => number >= after.mediaSequence)) {
    const later = now.get(segment.number);
    const same = (name: keyof Segment): boolean => segment[name] === undefined || later?.[name] === segment[name];
    for (const name of ["uri", "seconds", "discontinuity", "map", "programTimeMs"] as const) {
      if (!same(name)) found.push(`segment ${segment.number}: ${name} was ${segment[name]}, is ${later?.[name]}`);
    }
    for (const [index, part] of segment.parts.entries()) {
      const is = later?.parts[index];
      // Parts are taken off a segment, all at once, when it is old.
      if (later !== undefined && later.parts.length === 0 && later.uri !== undefined) break;
      if (is?.uri !== part.uri || is.seconds !== part.seconds) found.push(`segment ${segment.number}, part ${index} changed`);
    }
  }
  return found;
}
