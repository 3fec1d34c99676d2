/**
 * SDP fragments of trickle ICE (RFC 8840, section 4.4) as WHIP and WHEP send them (RFC 9725, section 4.3): text in, text out.
 *
 * With everything bundled, candidates are gathered for one media section only, the offerer-tagged one: the fragment has that.
 */

/** `application/trickle-ice-sdpfrag`. */
export const FRAGMENT_TYPE = "application/trickle-ice-sdpfrag";

/** Lines that a restart repeats as the offer had them (RFC 9725, section 4.3.3). */
const KEPT = /^a=ice-(options|pacing|lite)\b/;
const CREDENTIAL = /^a=ice-(ufrag|pwd):(.+)$/;
const CANDIDATE = /^a=(candidate:|end-of-candidates\b)/;

interface Section {
  readonly lines: readonly string[];
  readonly mid: string | null;
}

function linesOf(sdp: string): string[] {
  return sdp.split(/\r\n|\r|\n/).filter((line) => line !== "");
}

/** The session's lines, and each media section's. */
function sectionsOf(sdp: string): { session: string[]; media: Section[] } {
  const session: string[] = [];
  const media: string[][] = [];
  for (const line of linesOf(sdp)) {
    if (line.startsWith("m=")) media.push([line]);
    else (media.at(-1) ?? session).push(line);
  }
  const midOf = (lines: string[]): string | null =>
    lines.find((line) => line.startsWith("a=mid:"))?.slice("a=mid:".length) ?? null;
  return { session, media: media.map((lines) => ({ lines, mid: midOf(lines) })) };
}

/** The section whose transport all share: the first of the bundle group, else the first that is not rejected. */
function taggedIndex(session: readonly string[], media: readonly Section[]): number {
  const tagged = /^a=group:BUNDLE (\S+)/.exec(session.find((line) => line.startsWith("a=group:BUNDLE ")) ?? "")?.[1];
  const byGroup = media.findIndex(({ mid }) => mid !== null && mid === tagged);
  if (byGroup >= 0) return byGroup;
  return Math.max(
    0,
    media.findIndex(({ lines }) => !/^m=\S+ 0 /.test(lines[0] ?? "")),
  );
}

/** The ICE user name fragment of a description; `null` when it has none. */
export function ufragOf(sdp: string): string | null {
  return /^a=ice-ufrag:(\S+)/m.exec(sdp)?.[1] ?? null;
}

/**
 * The body of a PATCH: the description's credentials with some of its candidates.
 *
 * `candidates` are `RTCIceCandidate.candidate` texts, with or without `a=`; `complete` says that no more will come.
 */
export function fragmentOf(localSdp: string, candidates: readonly string[], complete: boolean): string {
  const { session, media } = sectionsOf(localSdp);
  const section = media[taggedIndex(session, media)];
  const own = section?.lines ?? [];
  const credential = (name: string): string | undefined =>
    [...own, ...session].find((line) => line.startsWith(`a=ice-${name}:`));
  const lines = [
    ...new Set([...session, ...own].filter((line) => KEPT.test(line))),
    session.find((line) => line.startsWith("a=group:BUNDLE ")),
    own[0],
    section?.mid == null ? undefined : `a=mid:${section.mid}`,
    credential("ufrag"),
    credential("pwd"),
    ...candidates.map((candidate) => `a=${candidate.replace(/^a=/, "")}`),
    complete ? "a=end-of-candidates" : undefined,
  ];
  return `${lines.filter((line) => line !== undefined).join("\r\n")}\r\n`;
}

/** What a server answers to a restart. */
export interface RemoteIce {
  readonly ufrag: string;
  readonly pwd: string;
  /** Lines as they stand in SDP, `a=end-of-candidates` too. */
  readonly candidates: readonly string[];
}

/** Reads the answer to a restart; `null` when it lacks credentials. */
export function parseFragment(text: string): RemoteIce | null {
  const lines = linesOf(text);
  const value = (name: string): string | undefined =>
    lines.map((line) => CREDENTIAL.exec(line)).find((found) => found?.[1] === name)?.[2];
  const [ufrag, pwd] = [value("ufrag"), value("pwd")];
  if (ufrag === undefined || pwd === undefined) return null;
  return { ufrag, pwd, candidates: lines.filter((line) => CANDIDATE.test(line)) };
}

/**
 * The server's earlier answer with its new ICE credentials and candidates, which replace all earlier ones; everything else still
 * holds (RFC 9725, section 4.3.3). Its version counts up (RFC 3264, section 8).
 */
export function restartedAnswer(answer: string, ice: RemoteIce): string {
  const { session, media } = sectionsOf(answer);
  const tagged = taggedIndex(session, media);
  const renewed = (lines: readonly string[]): string[] =>
    lines.flatMap((line) => {
      if (CANDIDATE.test(line)) return [];
      const credential = CREDENTIAL.exec(line)?.[1];
      if (credential === "ufrag") return [`a=ice-ufrag:${ice.ufrag}`];
      if (credential === "pwd") return [`a=ice-pwd:${ice.pwd}`];
      // The server's side of a session that began with its own offer: browsers answered "active".
      return [line === "a=setup:actpass" ? "a=setup:passive" : line];
    });
  const head = renewed(session).map((line) =>
    line.replace(/^(o=\S+ \S+ )(\d+)/, (_, before: string, version: string) => `${before}${BigInt(version) + 1n}`),
  );
  const body = media.flatMap(({ lines }, index) => [
    ...renewed(lines),
    ...(index === tagged ? ice.candidates : []),
  ]);
  return `${[...head, ...body].join("\r\n")}\r\n`;
}
