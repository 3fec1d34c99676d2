// WHIP and WHEP as a browser speaks them: one POST, no trickle.

export interface Session {
  peer: RTCPeerConnection;
  /** The session's own URL. */
  url: string;
  etag: string | null;
  /** When the answer was here, `performance.now()`. */
  answeredAt: number;
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
