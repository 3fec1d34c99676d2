/**
 * ICE restart (RFC 9725 section 4.3.3): a session moves to another network, or to better servers, and its media goes on.
 *
 * Browser and server exchange new ICE credentials by PATCH and nothing else of their descriptions changes. Until the new
 * pair of addresses works both keep the old one. No candidate of the browser's is sent: see `signalling.ts`.
 */

import { SignallingError } from "./problem";
import { patchFragment, type Endpoint } from "./signalling";

const FRAGMENT_LINE = /^(m=|a=(group:BUNDLE|ice-options:|mid:|ice-ufrag:|ice-pwd:))/;

/** What a fragment says of an offer (RFC 8840 section 4.4): with everything bundled, its first section stands for all. */
export function fragmentOf(offer: string): string {
  const lines = offer.split(/\r?\n/);
  const first = lines.findIndex((line) => line.startsWith("m="));
  const second = lines.findIndex((line, index) => index > first && line.startsWith("m="));
  const section = lines.slice(0, second === -1 ? undefined : second);
  return section
    .filter((line) => FRAGMENT_LINE.test(line))
    .map((line) => `${line}\r\n`)
    .join("");
}

/** The answer of before with the ICE of the server's fragment in it. */
export function withIceOf(answer: string, fragment: string): string {
  const said = fragment.split(/\r?\n/);
  const value = (name: string): string | undefined => said.find((line) => line.startsWith(`a=${name}:`));
  const ufrag = value("ice-ufrag");
  const pwd = value("ice-pwd");
  if (!ufrag || !pwd) throw new SignallingError("protocol", "the server's ICE restart has no credentials");
  const candidates = said.filter((line) => /^a=(candidate:|end-of-candidates)/.test(line));
  let placed = false;
  return answer
    .split(/\r?\n/)
    .filter((line) => !/^a=(candidate:|end-of-candidates)/.test(line))
    .flatMap((line) => {
      if (line.startsWith("a=ice-ufrag:")) return [ufrag];
      // The server's side of a session that began with its offer (WHEP's counter-offer): browsers answered "active".
      if (line === "a=setup:actpass") return ["a=setup:passive"];
      if (!line.startsWith("a=ice-pwd:")) return [line];
      // The first section's transport is everybody's.
      const here = placed ? [] : candidates;
      placed = true;
      return [pwd, ...here];
    })
    .join("\r\n");
}

/**
 * Restarts ICE of a session that stands. `tune` is what was done to the first offer's text, and must be done again.
 * Throws a `SignallingError` when the server refuses; the session is then what it was before.
 */
export async function restartIce(
  pc: RTCPeerConnection,
  endpoint: Endpoint,
  resource: string,
  tune: (offer: string) => string = (offer) => offer,
): Promise<void> {
  const answered = pc.remoteDescription;
  if (!answered || pc.signalingState !== "stable") return;
  const offer = tune((await pc.createOffer({ iceRestart: true })).sdp ?? "");
  await pc.setLocalDescription({ type: "offer", sdp: offer });
  try {
    const fragment = await patchFragment(endpoint, resource, fragmentOf(offer));
    await pc.setRemoteDescription({ type: "answer", sdp: withIceOf(answered.sdp, fragment) });
  } catch (thrown) {
    // The compiler believes that it is still what was asked above.
    if ((pc.signalingState as RTCSignalingState) === "have-local-offer") await pc.setLocalDescription({ type: "rollback" });
    throw thrown;
  }
}
