/** The few lines of SDP that browsers offer no interface for. Text in, text out; what is not understood is kept. */

/**
 * Adds or replaces parameters of every Opus payload type's `a=fmtp` (RFC 7587, section 6.1).
 *
 * Chromium plays and sends Opus in mono unless `stereo=1` is in the SDP: in its own offer for what it receives, in the
 * remote answer for what it sends. A payload type without `a=fmtp` gets one.
 */
export function setOpusParameters(sdp: string, parameters: Readonly<Record<string, string | number>>): string {
  const newline = sdp.includes("\r\n") ? "\r\n" : "\n";
  const lines = sdp.split(newline);
  const opus = new Set<string>();
  for (const line of lines) {
    const match = /^a=rtpmap:(\d+) opus\/48000/i.exec(line);
    if (match?.[1] !== undefined) opus.add(match[1]);
  }
  const written = new Set<string>();
  const merged = lines.map((line) => {
    const match = /^a=fmtp:(\d+) (.*)$/.exec(line);
    const [, payloadType, text] = match ?? [];
    if (payloadType === undefined || text === undefined || !opus.has(payloadType)) return line;
    written.add(payloadType);
    return `a=fmtp:${payloadType} ${mergeParameters(text, parameters)}`;
  });
  return merged
    .flatMap((line) => {
      const payloadType = /^a=rtpmap:(\d+) /.exec(line)?.[1];
      if (payloadType === undefined || !opus.has(payloadType) || written.has(payloadType)) return [line];
      return [line, `a=fmtp:${payloadType} ${mergeParameters("", parameters)}`];
    })
    .join(newline);
}

function mergeParameters(text: string, parameters: Readonly<Record<string, string | number>>): string {
  const kept = text
    .split(";")
    .map((part) => part.trim())
    .filter((part) => part !== "" && !((part.split("=")[0] ?? "") in parameters));
  return [...kept, ...Object.entries(parameters).map(([key, value]) => `${key}=${value}`)].join(";");
}
