/** The `Link` field (RFC 8288, section 3) of a 201: ICE servers (RFC 9725, section 4.6) and extensions (WHEP extensions draft). */

export interface Link {
  /** As it stands there: resolve it against the response's URL. */
  readonly target: string;
  /** Lower-case names; of a parameter that comes twice, the first counts. */
  readonly parameters: Readonly<Record<string, string>>;
}

/** `urn:ietf:params:whep:ext:core:server-sent-events`. */
export const EVENTS_RELATION = "urn:ietf:params:whep:ext:core:server-sent-events";
/** `urn:ietf:params:whep:ext:core:layer`. */
export const LAYER_RELATION = "urn:ietf:params:whep:ext:core:layer";

const TARGET = /[\s,]*<([^>]*)>/y;
/** Also without its semicolon, as examples of the WHEP extensions draft have it. */
const PARAMETER = /\s*;?\s*([!#$&+.^_`|~\w-]+)\*?\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?/y;

/** Reads a field, or several joined by commas as `Headers.get()` gives them. What is no link ends the list. */
export function parseLinks(field: string | null): Link[] {
  const links: Link[] = [];
  if (field === null) return links;
  let at = 0;
  const next = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(field);
    if (found) at = pattern.lastIndex;
    return found;
  };
  for (let target = next(TARGET); target !== null; target = next(TARGET)) {
    const parameters: Record<string, string> = {};
    for (let found = next(PARAMETER); found !== null; found = next(PARAMETER)) {
      const [, name = "", quoted, plain] = found;
      parameters[name.toLowerCase()] ??= quoted?.replace(/\\(.)/g, "$1") ?? plain ?? "";
    }
    links.push({ target: target[1] ?? "", parameters });
  }
  return links;
}

/** The first link that has this relation among its own (RFC 8288, section 3.3: several, apart by spaces). */
export function linkOf(links: readonly Link[], relation: string): Link | null {
  return links.find((link) => hasRelation(link, relation)) ?? null;
}

function hasRelation({ parameters }: Link, relation: string): boolean {
  return (parameters["rel"] ?? "").toLowerCase().split(/\s+/).includes(relation.toLowerCase());
}

/**
 * STUN and TURN servers, as `RTCConfiguration` wants them. What is no such URL, a TURN server without credentials and credentials that are
 * no password are left out: a browser refuses the whole list for one of them.
 */
export function iceServersOf(links: readonly Link[]): RTCIceServer[] {
  return links.flatMap((link): RTCIceServer[] => {
    const { target: urls, parameters } = link;
    const { username, credential, "credential-type": type = "password" } = parameters;
    if (!hasRelation(link, "ice-server") || type !== "password" || !/^(stun|turn)s?:[^\s/]/i.test(urls)) return [];
    if (username && credential) return [{ urls, username, credential }];
    return /^stun/i.test(urls) ? [{ urls }] : [];
  });
}
