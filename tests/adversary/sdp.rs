//! Offers that were sensible once: lines lost, doubled, exchanged, numbers stretched.

use crate::{
    attack::{Addresses, Chance},
    http::throw,
};

/// A viewer's or a publisher's offer, complete enough to be answered.
pub fn offer(direction: &str, ufrag: &str) -> String {
    let mut text = String::from(
        "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=msid-semantic: WMS\r\n",
    );
    for (mid, kind) in ["audio", "video"].iter().enumerate() {
        let formats = if *kind == "audio" { "111" } else { "96 97 98" };
        text += &format!("m={kind} 9 UDP/TLS/RTP/SAVPF {formats}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n");
        text += &format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:by5GZGG1lw+040DWA6hXM5Bz\r\na=ice-options:trickle\r\n");
        text += &format!("a=fingerprint:sha-256 {}\r\na=setup:actpass\r\na=mid:{mid}\r\n", ["7B"; 32].join(":"));
        text += "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n";
        text += "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n";
        text += &format!("a={direction}\r\na=msid:stream {kind}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n");
        text += match *kind {
            "audio" => {
                "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtcp-fb:111 transport-cc\r\n"
            }
            _ => {
                "a=rtpmap:96 H264/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 transport-cc\r\n\
                 a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
                 a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:98 VP8/90000\r\n"
            }
        };
        text += &format!(
            "a=ssrc-group:FID {mid}1 {mid}2\r\na=ssrc:{mid}1 cname:c\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n"
        );
    }
    text
}

pub fn offers(addresses: &Addresses, chance: &mut Chance) -> u64 {
    // The audience's own stream may be watched, but not taken over.
    let (path, direction) = if chance.one_in(2) { ("/whip/junk", "sendonly") } else { ("/whep/live", "recvonly") };
    let text = offer(direction, "EsAw");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..=chance.below(5) {
        let at = chance.below(lines.len());
        match chance.below(7) {
            0 if lines.len() > 1 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => {
                let other = chance.below(lines.len());
                lines.swap(at, other);
            }
            3 => lines[at] = stretch_number(&lines[at], chance),
            4 => {
                let more = (0..chance.below(400)).map(|n| format!("{}{n}", lines[at])).collect::<Vec<_>>();
                lines.splice(at..at, more);
            }
            5 => lines[at].push_str(&"9".repeat(chance.below(3000))),
            _ => {
                let end = lines[at].char_indices().nth(chance.below(30)).map_or(lines[at].len(), |(at, _)| at);
                lines[at].truncate(end);
            }
        }
    }
    let mut body = lines.join(chance.pick(&["\r\n", "\r\n", "\n", "\r"])).into_bytes();
    if chance.one_in(3) {
        chance.damage(&mut body);
    }
    throw(addresses.http, &post(path, &body));
    1
}

pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/sdp\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The line's last number becomes another.
fn stretch_number(line: &str, chance: &mut Chance) -> String {
    let Some(end) = line.rfind(|c: char| c.is_ascii_digit()) else { return line.into() };
    let start = line[..end].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    format!("{}{}{}", &line[..start], chance.number(), &line[end + 1..])
}
