//! An answer's SDP, before the `webrtc` crate reads it. Sans-I/O.

use sluice_signaling::sdp::NegotiatedMedia;

use crate::media::MediaKind;

/// Candidates of an answer: of two sections, eight addresses each by UDP and TCP. Each is paired with each address of this machine, and every pair
/// is tried several times a second.
const CANDIDATES_MAX: usize = 32;

/// The answer to an offer of these sections, with no more candidates than are of use, and sections that are refused in a form that the crate
/// takes: it wants to read the codec of them, which servers leave out (RFC 3264 section 6: what a section of port 0 says means nothing).
pub(super) fn readable(answer: &str, offered: &[NegotiatedMedia]) -> String {
    let (mut sections, mut candidates) = (0, 0);
    let mut refused = None;
    let mut out = String::with_capacity(answer.len());
    for line in answer.lines() {
        if line.starts_with("m=") {
            let mut words = line.split(' ');
            let is_refused = words.nth(1) == Some("0");
            refused = offered.get(sections).filter(|_| is_refused);
            sections += 1;
            if let Some(section) = refused {
                push(&mut out, &refusal(section));
                continue;
            }
        }
        candidates += usize::from(line.starts_with("a=candidate:"));
        let is_of_use = !line.starts_with("a=candidate:") || candidates <= CANDIDATES_MAX;
        if is_of_use && (refused.is_none() || line.starts_with("a=mid:")) {
            push(&mut out, line);
        }
    }
    out
}

fn push(out: &mut String, line: &str) {
    out.push_str(line);
    out.push_str("\r\n");
}

/// A refused section, but its name.
fn refusal(section: &NegotiatedMedia) -> String {
    let kind = section.kind.as_str();
    let Some(codec) = section.codecs.first() else { return format!("m={kind} 0 UDP/TLS/RTP/SAVPF 0") };
    let (payload_type, name, rate_hz) = (codec.payload_type, codec.codec.sdp_name(), codec.codec.clock_rate_hz());
    let channels = if section.kind == MediaKind::Audio { format!("/{}", codec.channels) } else { String::new() };
    format!(
        "m={kind} 0 UDP/TLS/RTP/SAVPF {payload_type}\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\n\
         a=rtpmap:{payload_type} {name}/{rate_hz}{channels}"
    )
}

#[cfg(test)]
mod tests {
    use sluice_signaling::sdp::offered;

    use super::*;
    use crate::media::{Codec, TrackFormat};

    fn sections() -> Vec<NegotiatedMedia> {
        let format = |codec, channels| TrackFormat { codec, fmtp: String::new(), channels };
        offered(&[format(Codec::Vp8, 1), format(Codec::Opus, 2)]).media
    }

    #[test]
    fn refused_sections_name_the_codec_that_was_offered() {
        let answer = "v=0\r\nm=video 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=rtcp-mux\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\n";
        let read = "v=0\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\na=rtpmap:96 VP8/90000\r\na=mid:0\r\n\
                    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\n";
        assert_eq!(readable(answer, &sections()), read);
        let sound = "m=video 9 X 96\nm=audio 0 X 0\n";
        assert!(readable(sound, &sections()).contains("a=rtpmap:111 opus/48000/2\r\n"));
        // More sections than were offered are nobody's; the crate says so.
        assert_eq!(readable("m=a\r\nm=b\r\nm=c 0 x\r\n", &sections()), "m=a\r\nm=b\r\nm=c 0 x\r\n");
    }

    #[test]
    fn candidates_are_bounded() {
        let many = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n".repeat(1_000);
        assert_eq!(readable(&many, &sections()).matches("a=candidate").count(), CANDIDATES_MAX);
    }
}
