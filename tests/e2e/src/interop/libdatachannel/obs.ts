// libdatachannel, driven as OBS's WHIP output drives it (obs-studio, plugins/obs-webrtc/whip-output.cpp): the same tracks, payload
// types and identifiers, the same chain of packetizer, sender reports, answers to NACKs and pacing, and no ear for keyframe requests.
// With more than one layer as OBS 32.1 does simulcast, else as OBS 30.2 and later publish.
//
//     obs.ts URL [LAYERS]
//
// Publishes until its input is closed; ends with one line of JSON.

import { setTimeout as delay } from "node:timers/promises";
import rtc from "node-datachannel";
import { encode, FPS, SOUND_MS, type Layer } from "./encoders.ts";
import { LayerSender, Reports } from "./layers.ts";

const USER_AGENT = "Mozilla/5.0 (OBS-Studio/32.2.2; Linux x86_64; en-US)";
const AUDIO_PAYLOAD_TYPE = 111;
const VIDEO_PAYLOAD_TYPE = 96;
const FRAGMENT_BYTES_MAX = 1_200;
const NACK_PACKETS = 4_000;
const PACING_MS = 5;
const PATIENCE_MS = 8_000;

/** 100 %, 66 %, 33 % of the picture, as OBS cuts three layers; of bitrates as well. */
const LAYERS: Layer[] = [
  { width: 960, height: 540, bitrate: 1_500 },
  { width: 640, height: 360, bitrate: 1_000 },
  { width: 320, height: 180, bitrate: 500 },
];

interface Offer {
  peer: InstanceType<typeof rtc.PeerConnection>;
  sdp: string;
  sendPicture: (layer: number, accessUnit: Buffer) => void;
  sendSound: (packet: Buffer) => void;
}

/** Letters and digits, as OBS names its stream and its cname. */
function identifier(): string {
  const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  return Array.from({ length: 16 }, () => letters[Math.floor(Math.random() * letters.length)]).join("");
}

async function offer(layers: Layer[]): Promise<Offer> {
  const peer = new rtc.PeerConnection("obs", { iceServers: [] });
  const described = new Promise<string>((resolve) => peer.onLocalDescription(resolve));
  const [stream, cname] = [identifier(), identifier()];
  const audioSsrc = 1 + Math.floor(Math.random() * 0xffff_0000);

  const audio = new rtc.Audio("0", "SendOnly");
  audio.addOpusCodec(AUDIO_PAYLOAD_TYPE);
  audio.addSSRC(audioSsrc, cname, stream, `${stream}-audio`);
  const audioTrack = peer.addTrack(audio);
  const audioConfig = new rtc.RtpPacketizationConfig(audioSsrc, cname, AUDIO_PAYLOAD_TYPE, 48_000);
  const opus = new rtc.RtpPacketizer(audioConfig);
  opus.addToChain(new rtc.RtcpSrReporter(audioConfig));
  opus.addToChain(new rtc.RtcpNackResponder());
  audioTrack.setMediaHandler(opus);

  const video = new rtc.Video("1", "SendOnly");
  // Of all layers' SSRCs OBS names the first, so that the library hears NACKs for that one only.
  video.addSSRC(audioSsrc + 1, cname, stream, `${stream}-video`);
  if (layers.length > 1) {
    video.parseSdpLine("a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid");
    video.parseSdpLine("a=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id");
    for (const rid of layers.keys()) video.parseSdpLine(`a=rid:${rid} send`);
    video.parseSdpLine(`a=simulcast:send ${[...layers.keys()].join(";")}`);
  }
  video.addH264Codec(VIDEO_PAYLOAD_TYPE);
  const videoTrack = peer.addTrack(video);
  const nackResponder = new rtc.RtcpNackResponder(NACK_PACKETS);
  const pacing = new rtc.PacingHandler((layers[0]?.bitrate ?? 0) * 10_000, PACING_MS);

  const sendSound = (packet: Buffer): void => {
    if (!audioTrack.isOpen()) return;
    audioConfig.timestamp = (audioConfig.timestamp + (SOUND_MS * 48_000) / 1000) >>> 0;
    audioTrack.sendMessageBinary(packet);
  };
  let sendPicture: Offer["sendPicture"];
  if (layers.length > 1) {
    nackResponder.addToChain(pacing);
    videoTrack.setMediaHandler(nackResponder);
    const reports = new Reports(cname);
    const send = (packet: Buffer): void => void videoTrack.sendMessageBinary(packet);
    const senders = [...layers.keys()].map((i) => new LayerSender(audioSsrc + 1 + i, String(i), reports, send));
    sendPicture = (layer, accessUnit) => {
      if (videoTrack.isOpen()) senders[layer]?.picture(accessUnit, 1 / FPS);
    };
  } else {
    const config = new rtc.RtpPacketizationConfig(audioSsrc + 1, cname, VIDEO_PAYLOAD_TYPE, 90_000);
    const packetizer = new rtc.H264RtpPacketizer("StartSequence", config, FRAGMENT_BYTES_MAX);
    packetizer.addToChain(new rtc.RtcpSrReporter(config));
    packetizer.addToChain(nackResponder);
    packetizer.addToChain(pacing);
    videoTrack.setMediaHandler(packetizer);
    sendPicture = (_, accessUnit) => {
      if (!videoTrack.isOpen()) return;
      config.timestamp = (config.timestamp + 90_000 / FPS) >>> 0;
      videoTrack.sendMessageBinary(accessUnit);
    };
  }

  peer.setLocalDescription();
  // The description comes before any candidate: OBS, too, sends none since 30.2.
  const sdp = await described;
  return { peer, sdp: layers.length > 1 ? withoutVideoSsrc(sdp, audioSsrc + 1) : sdp, sendPicture, sendSound };
}

/** With rids the library writes no SSRC of the pictures. */
function withoutVideoSsrc(sdp: string, ssrc: number): string {
  return sdp.split("\r\n").filter((line) => !line.startsWith(`a=ssrc:${ssrc} `)).join("\r\n");
}

async function request(method: string, url: string, body?: string): Promise<Response> {
  const headers: Record<string, string> = { accept: "*/*", "user-agent": USER_AGENT };
  if (body !== undefined) headers["content-type"] = "application/sdp";
  return fetch(url, { method, headers, body: body ?? null, signal: AbortSignal.timeout(PATIENCE_MS) });
}

/** OBS ends the session when it gets fewer layers than it offered. */
function layersIn(answer: string): number {
  const line = answer.split("\r\n").find((each) => each.startsWith("a=simulcast"));
  return line === undefined ? 0 : line.split(";").length;
}

async function publish(url: string, layers: Layer[]): Promise<void> {
  const { peer, sdp, sendPicture, sendSound } = await offer(layers);
  let failure: string | undefined;
  peer.onStateChange((state) => {
    if (state === "failed" || state === "disconnected") failure = `the connection is ${state}`;
  });
  const response = await request("POST", url, sdp);
  const answer = await response.text();
  if (response.status !== 201) throw new Error(`${response.status} ${answer}`);
  const session = new URL(response.headers.get("location") ?? "", response.url).href;
  if (layers.length > 1 && layersIn(answer) !== layers.length) throw new Error(`${layersIn(answer)} layers taken:\n${answer}`);
  peer.setRemoteDescription(answer, "answer");

  const receiver = { picture: sendPicture, sound: sendSound, ended: (why: string) => (failure = why) };
  const encoders = encode(layers, receiver);
  let dismissed = false;
  process.stdin.on("end", () => (dismissed = true)).resume();
  while (!dismissed && failure === undefined) await delay(50);
  encoders.removeAllListeners("exit").kill("SIGKILL");
  if (!dismissed) throw new Error(failure);
  peer.close();
  console.log(JSON.stringify({ offer: sdp, left: (await request("DELETE", session)).status }));
}

const [url = "", layers = "1"] = process.argv.slice(2);
if (url === "version") console.log(rtc.getLibraryVersion());
else {
  await publish(url, LAYERS.slice(0, Number(layers)));
  rtc.cleanup();
}
