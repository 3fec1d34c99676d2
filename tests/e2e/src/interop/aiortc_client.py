"""aiortc as a WHIP and WHEP client: publishes a moving picture and a hum until it is told to stop, or plays and counts.

    aiortc_client.py publish URL
    aiortc_client.py play URL PICTURES SOUNDS

Playing ends with one line of JSON.
"""

import array
import asyncio
import fractions
import json
import math
import sys
import urllib.parse
import urllib.request

import av
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack

PATIENCE_S = 15
HUM_HZ = 440
SOUND_HZ = 48_000
SOUND_SAMPLES = 960


class Pattern(VideoStreamTrack):
    """A bar that wanders over a ramp, 30 pictures a second."""

    async def recv(self):
        pts, time_base = await self.next_timestamp()
        frame = av.VideoFrame(320, 180, "yuv420p")
        at = (pts // 3000 * 4) % 300
        for number, plane in enumerate(frame.planes):
            shade = 120 if number else 60
            line = bytearray([shade]) * plane.line_size
            if number == 0:
                line[at : at + 20] = bytes([220]) * 20
            plane.update(bytes(line) * (plane.buffer_size // plane.line_size))
        frame.pts = pts
        frame.time_base = time_base
        return frame


class Hum(MediaStreamTrack):
    kind = "audio"

    def __init__(self):
        super().__init__()
        self.at = 0
        self.began = None

    async def recv(self):
        loop = asyncio.get_running_loop()
        self.began = self.began or loop.time()
        await asyncio.sleep(max(0, self.began + self.at / SOUND_HZ - loop.time()))
        samples = bytearray()
        for i in range(SOUND_SAMPLES):
            level = int(9000 * math.sin(2 * math.pi * HUM_HZ * (self.at + i) / SOUND_HZ))
            samples += level.to_bytes(2, "little", signed=True) * 2
        frame = av.AudioFrame(format="s16", layout="stereo", samples=SOUND_SAMPLES)
        frame.planes[0].update(bytes(samples))
        frame.sample_rate = SOUND_HZ
        frame.pts = self.at
        frame.time_base = fractions.Fraction(1, SOUND_HZ)
        self.at += SOUND_SAMPLES
        return frame


def request(method, url, body=None):
    headers = {"content-type": "application/sdp"} if body else {}
    asked = urllib.request.Request(url, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as refused:
        raise SystemExit(f"{refused.code} {refused.read().decode()}") from refused


async def negotiate(peer, url):
    """Offers with all candidates; gives the session's URL."""
    await peer.setLocalDescription(await peer.createOffer())
    offer = peer.localDescription.sdp
    _, headers, answer = await asyncio.to_thread(request, "POST", url, offer.encode())
    await peer.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
    return urllib.parse.urljoin(url, headers["location"])


async def publish(url):
    peer = RTCPeerConnection()
    peer.addTrack(Hum())
    peer.addTrack(Pattern())
    session = await negotiate(peer, url)
    print(json.dumps({"session": session}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    status, _, _ = await asyncio.to_thread(request, "DELETE", session)
    await peer.close()
    print(json.dumps({"left": status}), flush=True)


async def count(track, enough):
    """What is decoded of a track, until there is enough."""
    units, energy = 0, 0.0
    while units < enough:
        frame = await track.recv()
        units += 1
        if track.kind == "audio":
            samples = array.array("h", bytes(frame.planes[0])[: frame.samples * 4])
            energy += sum(sample * sample for sample in samples) / len(samples) / 32768**2
    return {"units": units, "energy": energy / units}


def codec_in_use(transceiver):
    """The first of the answer's: the live one."""
    return next(codec.mimeType for codec in transceiver._codecs if not codec.mimeType.endswith("/rtx"))


async def play(url, pictures, sounds):
    peer = RTCPeerConnection()
    transceivers = [peer.addTransceiver(kind, direction="recvonly") for kind in ("audio", "video")]
    session = await negotiate(peer, url)
    tracks = [transceiver.receiver.track for transceiver in transceivers]
    audio, video = await asyncio.wait_for(
        asyncio.gather(count(tracks[0], sounds), count(tracks[1], pictures)), PATIENCE_S
    )
    audio["codec"], video["codec"] = (codec_in_use(transceiver) for transceiver in transceivers)
    status, _, _ = await asyncio.to_thread(request, "DELETE", session)
    await peer.close()
    print(json.dumps({"audio": audio, "video": video, "left": status}), flush=True)


if sys.argv[1] == "publish":
    asyncio.run(publish(sys.argv[2]))
else:
    asyncio.run(play(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
