// Pages of other people's: the published WHIP and WHEP libraries, each as its own README shows it.

import { WebRTCPlayer } from "@eyevinn/webrtc-player";
import { WHIPClient as EyevinnWhip } from "@eyevinn/whip-web-client";
import { WHEPClient as MedoozeWhep } from "whip-whep/whep.js";
import { WHIPClient as MedoozeWhip } from "whip-whep/whip.js";
import { camera } from "./camera.ts";

export interface PlayReport {
  framesDecoded: number;
  videoCodec: string | undefined;
  audioCodec: string | undefined;
  audioEnergy: number;
}

export interface Stopped {
  /** Of the DELETE, if the library sent one. */
  deleted: number | undefined;
}

let stop: () => Promise<void> = () => Promise.resolve();
/** Connections that the libraries made; theirs are private. */
const peers: RTCPeerConnection[] = [];
const Original = RTCPeerConnection;
window.RTCPeerConnection = class extends Original {
  constructor(configuration?: RTCConfiguration) {
    super(configuration);
    peers.push(this);
  }
};
let deleted: number | undefined;
const send = window.fetch;
window.fetch = async (...given) => {
  const response = await send(...given);
  if (given[1]?.method === "DELETE") deleted = response.status;
  return response;
};

function screen(): HTMLVideoElement {
  const video = document.createElement("video");
  video.autoplay = true;
  document.body.append(video);
  return video;
}

async function publish(library: string, endpoint: string): Promise<void> {
  const media = await camera();
  if (library === "@eyevinn/whip-web-client") {
    const client = new EyevinnWhip({ endpoint, opts: {} });
    await client.ingest(media);
    stop = () => client.destroy();
  } else {
    const client = new MedoozeWhip();
    const peer = new RTCPeerConnection();
    for (const track of media.getTracks()) peer.addTransceiver(track, { direction: "sendonly", streams: [media] });
    await client.publish(peer, endpoint);
    stop = () => client.stop();
  }
}

async function play(library: string, endpoint: string): Promise<void> {
  const video = screen();
  if (library === "@eyevinn/webrtc-player") {
    const player = new WebRTCPlayer({ video, type: "whep", iceServers: [] });
    await player.load(new URL(endpoint));
    stop = () => player.unload();
  } else {
    const client = new MedoozeWhep();
    const peer = new RTCPeerConnection();
    peer.addTransceiver("audio", { direction: "recvonly" });
    peer.addTransceiver("video", { direction: "recvonly" });
    const stream = new MediaStream();
    peer.ontrack = ({ track }) => {
      stream.addTrack(track);
      video.srcObject = stream;
    };
    await client.view(peer, endpoint);
    stop = () => client.stop();
  }
}

async function report(): Promise<PlayReport> {
  const found: PlayReport = { framesDecoded: 0, videoCodec: undefined, audioCodec: undefined, audioEnergy: 0 };
  const stats = await peers.at(-1)?.getStats();
  stats?.forEach((entry) => {
    if (entry.type !== "inbound-rtp") return;
    const codec = (stats.get(entry.codecId) as { mimeType?: string } | undefined)?.mimeType;
    if (entry.kind === "video") {
      found.framesDecoded = entry.framesDecoded ?? 0;
      found.videoCodec = codec;
    } else {
      found.audioEnergy = entry.totalAudioEnergy ?? 0;
      found.audioCodec = codec;
    }
  });
  return found;
}

async function leave(): Promise<Stopped> {
  await stop();
  return { deleted };
}

export const libraries = { publish, play, report, leave };
declare global {
  interface Window {
    libraries: typeof libraries;
  }
}
window.libraries = libraries;
