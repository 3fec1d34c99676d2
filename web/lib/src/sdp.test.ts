import { describe, expect, it } from "vitest";
import { setFormatParameters } from "./sdp.ts";

const lines = (...text: string[]): string => `${text.join("\r\n")}\r\n`;

describe("setFormatParameters", () => {
  it("adds to the parameters of Opus only", () => {
    const sdp = lines(
      "m=audio 9 UDP/TLS/RTP/SAVPF 111 63",
      "a=rtpmap:111 opus/48000/2",
      "a=fmtp:111 minptime=10;useinbandfec=1",
      "a=rtpmap:63 red/48000/2",
      "a=fmtp:63 111/111",
    );
    expect(setFormatParameters(sdp, "opus", { stereo: 1 })).toBe(
      sdp.replace("useinbandfec=1", "useinbandfec=1;stereo=1"),
    );
  });

  it("replaces a parameter that is there", () => {
    const sdp = lines("a=rtpmap:111 OPUS/48000/2", "a=fmtp:111 stereo=0; minptime=10");
    expect(setFormatParameters(sdp, "opus", { stereo: 1 })).toContain("a=fmtp:111 minptime=10;stereo=1\r\n");
  });

  it("writes a line where there was none", () => {
    const sdp = lines("a=rtpmap:96 opus/48000/2", "a=rtcp-fb:96 transport-cc");
    expect(setFormatParameters(sdp, "opus", { stereo: 1, "sprop-stereo": 1 })).toBe(
      lines("a=rtpmap:96 opus/48000/2", "a=fmtp:96 stereo=1;sprop-stereo=1", "a=rtcp-fb:96 transport-cc"),
    );
  });

  it("reaches every payload type of a codec", () => {
    const sdp = lines(
      "a=rtpmap:102 H264/90000",
      "a=fmtp:102 packetization-mode=1",
      "a=rtpmap:108 H264/90000",
      "a=rtpmap:96 VP8/90000",
    );
    expect(setFormatParameters(sdp, "h264", { "x-google-start-bitrate": 900 })).toBe(
      lines(
        "a=rtpmap:102 H264/90000",
        "a=fmtp:102 packetization-mode=1;x-google-start-bitrate=900",
        "a=rtpmap:108 H264/90000",
        "a=fmtp:108 x-google-start-bitrate=900",
        "a=rtpmap:96 VP8/90000",
      ),
    );
  });

  it("leaves everything else as it is, line ends too", () => {
    const sdp = "v=0\nm=video 9 UDP/TLS/RTP/SAVPF 96\na=rtpmap:96 H264/90000\na=fmtp:96 profile-level-id=42e01f\n";
    expect(setFormatParameters(sdp, "opus", { stereo: 1 })).toBe(sdp);
  });
});
