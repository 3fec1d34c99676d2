/** STUN and TURN servers that a server names in `Link` headers (RFC 9725 section 4.6, RFC 8288). */

const LINK = /<([^>]*)>((?:\s*;\s*[\w-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]+))*)/g;
const ATTRIBUTE = /;\s*([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))/g;

/** `field` is all `Link` values joined by commas, as `Headers.get` gives them. Links of other kinds are passed over. */
export function iceServersOf(field: string | null): RTCIceServer[] {
  const servers: RTCIceServer[] = [];
  for (const [, urls = "", text = ""] of (field ?? "").matchAll(LINK)) {
    const attributes = new Map<string, string>();
    for (const [, name = "", quoted, bare] of text.matchAll(ATTRIBUTE)) {
      attributes.set(name.toLowerCase(), quoted?.replace(/\\(.)/g, "$1") ?? bare ?? "");
    }
    const isIce = attributes.get("rel")?.split(/\s+/).includes("ice-server");
    const type = attributes.get("credential-type") ?? "password";
    if (!isIce || type !== "password" || !/^(stun|turn)s?:/.test(urls)) continue;
    const [username, credential] = [attributes.get("username"), attributes.get("credential")];
    // Browsers throw when a TURN server has no credentials.
    if (urls.startsWith("turn") && (!username || !credential)) continue;
    servers.push(username && credential ? { urls, username, credential } : { urls });
  }
  return servers;
}
