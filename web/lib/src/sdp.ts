/** The few lines of SDP that browsers offer no interface for. Text in, text out; what is not understood is kept. */

export type Parameters = Readonly<Record<string, string | number>>;

/**
 * Adds or replaces parameters in the `a=fmtp` of every payload type of a codec, by its SDP name in any case. A payload
 * type without `a=fmtp` gets one.
 *
 * Chromium plays and sends Opus in mono unless `stereo=1` (RFC 7587, section 6.1) is in the SDP: in its own offer for
 * what it receives, in the remote answer for what it sends.
 */
export function setFormatParameters(sdp: string, codec: string, parameters: Parameters): string {
  const newline = sdp.includes("\r\n") ? "\r\n" : "\n";
  const lines = sdp.split(newline);
  const ofCodec = new Set<string>();
  for (const line of lines) {
    const [, payloadType, name] = /^a=rtpmap:(\d+) ([^/]+)\//.exec(line) ?? [];
    if (payloadType !== undefined && name?.toLowerCase() === codec.toLowerCase()) ofCodec.add(payloadType);
  }
  const written = new Set<string>();
  const merged = lines.map((line) => {
    const [, payloadType, text] = /^a=fmtp:(\d+) (.*)$/.exec(line) ?? [];
    if (payloadType === undefined || text === undefined || !ofCodec.has(payloadType)) return line;
    written.add(payloadType);
    return `a=fmtp:${payloadType} ${mergeParameters(text, parameters)}`;
  });
  return merged
    .flatMap((line) => {
      const payloadType = /^a=rtpmap:(\d+) /.exec(line)?.[1];
      if (payloadType === undefined || !ofCodec.has(payloadType) || written.has(payloadType)) return [line];
      return [line, `a=fmtp:${payloadType} ${mergeParameters("", parameters)}`];
    })
    .join(newline);
}

function mergeParameters(text: string, parameters: Parameters): string {
  const kept = text
    .split(";")
    .map((part) => part.trim())
    .filter((part) => part !== "" && !((part.split("=")[0] ?? "") in parameters));
  return [...kept, ...Object.entries(parameters).map(([key, value]) => `${key}=${value}`)].join(";");
}
