// WHIP and WHEP as a browser speaks them: one POST, no trickle.

import { fragmentOf, parseFragment, restartedAnswer, ufragOf } from "../../../../web/lib/src/fragment.ts";

export interface Session {
  peer: RTCPeerConnection;
  /** The session's own URL. */
  url: string;
  etag: string | null;
  /** When the answer was here, `performance.now()`. */
  answeredAt: number;
}

/** webrtc-extensions, "RTP header extension control": what lib.dom does not have yet. */
interface Extension {
  uri: string;
  direction: RTCRtpTransceiverDirection;
}
interface ExtensionControl {
  getHeaderExtensionsToNegotiate(): Extension[];
  setHeaderExtensionsToNegotiate(extensions: Extension[]): void;
}

/** Offers the abs-capture-time header extension, which browsers have and do not offer by themselves. */
export function offerCaptureTimes(peer: RTCPeerConnection): void {
  for (const transceiver of peer.getTransceivers() as (RTCRtpTransceiver & ExtensionControl)[]) {
    const extensions = transceiver.getHeaderExtensionsToNegotiate();
    for (const extension of extensions) if (extension.uri.endsWith("/abs-capture-time")) extension.direction = "sendrecv";
    transceiver.setHeaderExtensionsToNegotiate(extensions);
  }
}

/** Sends the offer, applies the answer. Rejects with the status and the problem's text. */
export async function negotiate(peer: RTCPeerConnection, endpoint: string, token?: string): Promise<Session> {
  await peer.setLocalDescription();
  const headers: Record<string, string> = { "content-type": "application/sdp" };
  if (token !== undefined) headers["authorization"] = `Bearer ${token}`;
  const body = peer.localDescription?.sdp ?? "";
  const response = await fetch(endpoint, { method: "POST", headers, body });
  const answer = await response.text();
  if (response.status !== 201) throw new Error(`${response.status} ${answer}`);
  const answeredAt = performance.now();
  await peer.setRemoteDescription({ type: "answer", sdp: answer });
  const location = response.headers.get("location");
  if (location === null) throw new Error("the answer has no Location");
  return { peer, url: new URL(location, endpoint).href, etag: response.headers.get("etag"), answeredAt };
}

/** Restarts ICE as the client library does; gives the new ICE session's name. */
export async function restart({ peer, url }: Session, token?: string): Promise<string> {
  const answer = peer.remoteDescription?.sdp ?? "";
  const offer = await peer.createOffer({ iceRestart: true });
  await peer.setLocalDescription(offer);
  const headers: Record<string, string> = { "content-type": "application/trickle-ice-sdpfrag", "if-match": "*" };
  if (token !== undefined) headers["authorization"] = `Bearer ${token}`;
  const body = fragmentOf(offer.sdp ?? "", [], false);
  const response = await fetch(url, { method: "PATCH", headers, body });
  const text = await response.text();
  const ice = parseFragment(text);
  if (response.status !== 200 || ice === null) throw new Error(`${response.status} ${text}`);
  await peer.setRemoteDescription({ type: "answer", sdp: restartedAnswer(answer, ice) });
  return ufragOf(offer.sdp ?? "") ?? "";
}

/** The browser's side of the pair that carries the media. */
export interface OwnSide {
  /** Names the ICE session. */
  ufrag: string;
  port: number;
  type: RTCIceCandidateType;
  /** How a relay is spoken to. */
  relayProtocol: string | undefined;
}

export async function ownSide(peer: RTCPeerConnection): Promise<OwnSide | undefined> {
  const stats = await peer.getStats();
  let found: OwnSide | undefined;
  stats.forEach((entry) => {
    if (entry.type !== "transport") return;
    const local = stats.get(stats.get(entry.selectedCandidatePairId)?.localCandidateId);
    if (local === undefined) return;
    const { usernameFragment: ufrag, port, candidateType: type, relayProtocol } = local;
    found = { ufrag, port, type, relayProtocol };
  });
  return found;
}

/** The pair of candidates that carries a session, and what it is sealed with. */
export interface Carrier {
  protocol: "udp" | "tcp";
  /** The server's side. */
  address: string;
  port: number;
  /** The SRTP profile, by its name in the IANA registry. */
  srtp: string;
}

/** What webrtc-stats (section 8.13) tells of the selected pair, once there is one. */
export function carrier(stats: RTCStatsReport): Carrier | undefined {
  let found: Carrier | undefined;
  stats.forEach((entry) => {
    if (entry.type !== "transport") return;
    const remote = stats.get(stats.get(entry.selectedCandidatePairId)?.remoteCandidateId);
    if (remote === undefined) return;
    found = { protocol: remote.protocol, address: remote.address, port: remote.port, srtp: entry.srtpCipher };
  });
  return found;
}
