//! A WHIP publisher of the synthetic stream ([`stamp`](super::stamp)): video whose every packet tells when it was sent, and
//! Opus frames of silence's size. Sans-I/O. Retransmission is not offered by it in deed: on the path from this machine
//! to the server nothing should be lost, and what is shows as the viewers' loss.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use sluice_signaling::ice::IceCredentials;

use super::{
    answer::Answer,
    offer::{PUBLISHED_AUDIO, PUBLISHED_VIDEO},
    peer::Peer,
    stamp::{PPS, Pictures, SPS},
};
use crate::{
    media::RTP_HEADER_BYTES,
    rtp::rtcp::{NtpTime, Rtcp, RtcpReader, SenderReport, write_cname, write_sender_report},
    transport::{Certificate, Received},
};

/// RTP payload bytes of one packet: with every header and tag below 1,280, the smallest IPv6 link.
const PAYLOAD_MAX_BYTES: usize = 1_160;
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
/// An Opus frame at 48 kb/s.
const AUDIO_BYTES: usize = 120;
const VIDEO_HZ: u64 = 90_000;
const AUDIO_HZ: u64 = 48_000;
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// NAL unit types of a fragment and of an aggregation (RFC 6184 section 5.2).
const FU_A: u8 = 28;
const STAP_A: u8 = 24;

pub struct Publisher {
    peer: Peer,
    pictures: Pictures,
    video: Track,
    audio: Track,
    /// Sealed packets, until the driver drains them: one picture at the most.
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    live: Option<Live>,
}

/// Once connected.
struct Live {
    since: Instant,
    next_picture: Instant,
    next_audio: Instant,
    next_report: Instant,
}

struct Track {
    ssrc: u32,
    payload_type: u8,
    clock_hz: u64,
    /// Of the next packet; its low 16 bits are the sequence number.
    index: u64,
    packets: u32,
    bytes: u32,
}

impl Publisher {
    /// With the SSRCs that the offer named.
    ///
    /// # Errors
    /// When the session cannot be made; for people.
    pub fn new(
        now: Instant,
        local: IceCredentials,
        answer: &Answer,
        certificate: &Arc<Certificate>,
        (video, audio): (u32, u32),
        pictures: Pictures,
    ) -> Result<Self, String> {
        Ok(Self {
            peer: Peer::new(now, local, answer, certificate)?,
            pictures,
            video: Track::new(video, PUBLISHED_VIDEO, VIDEO_HZ),
            audio: Track::new(audio, PUBLISHED_AUDIO, AUDIO_HZ),
            outbox: VecDeque::new(),
            live: None,
        })
    }

    /// Since when pictures are sent.
    pub fn live_since(&self) -> Option<Instant> {
        self.live.as_ref().map(|live| live.since)
    }

    pub fn ended(&self) -> Option<&str> {
        self.peer.ended()
    }

    /// When the next picture or frame of sound is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.live.as_ref().map(|live| live.next_picture.min(live.next_audio))
    }

    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        if let Received::Rtcp(compound) = self.peer.handle_datagram(now, from, datagram) {
            let asks = |part| matches!(part, Rtcp::Pli { .. } | Rtcp::Fir { .. });
            if RtcpReader::new(&compound).any(asks) {
                self.pictures.request_keyframe();
            }
        }
        if self.peer.is_connected() && self.live.is_none() {
            self.live = Some(Live { since: now, next_picture: now, next_audio: now, next_report: now });
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.peer.handle_timeout(now);
        let (Some(live), Some(to)) = (&mut self.live, self.peer.remote()) else { return };
        let since = now.saturating_duration_since(live.since);
        let Some(sealer) = self.peer.sealer() else { return };
        let mut packets = Vec::new();
        if live.next_picture <= now {
            live.next_picture += self.pictures.interval();
            let picture = self.pictures.next(now);
            let payloads = packetize(&picture.slice, picture.keyframe);
            let last = payloads.len().saturating_sub(1);
            for (at, payload) in payloads.iter().enumerate() {
                packets.push(self.video.packet(payload, at == last, since, sealer.overhead_bytes()));
            }
        }
        if live.next_audio <= now {
            live.next_audio += AUDIO_INTERVAL;
            // CELT, full band, 20 ms, one frame, stereo (RFC 6716 section 3.1); what follows is not decoded by anybody.
            let mut frame = [0x5a; AUDIO_BYTES];
            frame[0] = 0xfc;
            packets.push(self.audio.packet(&frame, false, since, sealer.overhead_bytes()));
        }
        for (mut packet, ssrc, index) in packets {
            sealer.seal(&mut packet, RTP_HEADER_BYTES, ssrc, index);
            self.outbox.push_back((to, packet));
        }
        if live.next_report <= now {
            live.next_report = now + REPORT_INTERVAL;
            self.report(since);
        }
    }

    fn report(&mut self, since: Duration) {
        let ntp = NtpTime::from_system(SystemTime::now());
        for track in [&self.video, &self.audio] {
            let report = SenderReport {
                ssrc: track.ssrc,
                ntp,
                rtp_time: track.time(since),
                packets: track.packets,
                bytes: track.bytes,
            };
            let mut compound = Vec::with_capacity(64);
            write_sender_report(&mut compound, &report, &[]);
            write_cname(&mut compound, track.ssrc, "bench");
            self.peer.send_rtcp(&compound);
        }
    }

    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.outbox.pop_front().or_else(|| self.peer.poll_transmit())
    }

    pub fn close(&mut self, now: Instant) {
        self.peer.close(now);
    }
}

impl Track {
    fn new(ssrc: u32, payload_type: u8, clock_hz: u64) -> Self {
        Self { ssrc, payload_type, clock_hz, index: u64::from(rand::random::<u8>()), packets: 0, bytes: 0 }
    }

    fn time(&self, since: Duration) -> u32 {
        (since.as_micros() as u64 * self.clock_hz / 1_000_000) as u32
    }

    /// A packet with room for the tag; its SSRC and index.
    fn packet(&mut self, payload: &[u8], marker: bool, since: Duration, tag_bytes: usize) -> (Vec<u8>, u32, u64) {
        let index = self.index;
        self.index += 1;
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(payload.len() as u32);
        let mut packet = Vec::with_capacity(RTP_HEADER_BYTES + payload.len() + tag_bytes);
        packet.extend_from_slice(&[0x80, u8::from(marker) << 7 | self.payload_type]);
        packet.extend_from_slice(&(index as u16).to_be_bytes());
        packet.extend_from_slice(&self.time(since).to_be_bytes());
        packet.extend_from_slice(&self.ssrc.to_be_bytes());
        packet.extend_from_slice(payload);
        packet.resize(packet.len() + tag_bytes, 0);
        (packet, self.ssrc, index)
    }
}

/// A slice in fragments of one size (RFC 6184 section 5.8), behind the parameter sets if it is a keyframe's (section 5.7.1).
fn packetize(slice: &[u8], keyframe: bool) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    if keyframe {
        let mut sets = vec![STAP_A | 0x60];
        for set in [&SPS[..], &PPS[..]] {
            sets.extend_from_slice(&(set.len() as u16).to_be_bytes());
            sets.extend_from_slice(set);
        }
        payloads.push(sets);
    }
    let Some((&header, body)) = slice.split_first() else { return payloads };
    if slice.len() <= PAYLOAD_MAX_BYTES {
        payloads.push(slice.to_vec());
        return payloads;
    }
    let fragments = body.len().div_ceil(PAYLOAD_MAX_BYTES - 2);
    let each = body.len().div_ceil(fragments);
    for (at, fragment) in body.chunks(each).enumerate() {
        let start = u8::from(at == 0) << 7;
        let end = u8::from(at == fragments - 1) << 6;
        let mut payload = vec![header & 0xe0 | FU_A, start | end | header & 0x1f];
        payload.extend_from_slice(fragment);
        payloads.push(payload);
    }
    payloads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bench::stamp, codec::h264::depacketize::inspect, media::testing::epoch};

    #[test]
    fn a_keyframe_is_parameter_sets_and_equal_fragments_that_all_carry_the_stamp() {
        let shape = stamp::StreamShape { kbps: 2_000, fps: 30, gop_frames: 60 };
        let sent = Duration::from_secs(3);
        let picture = Pictures::new(shape, epoch()).next(epoch() + sent);
        let payloads = packetize(&picture.slice, picture.keyframe);
        assert_eq!(inspect(&payloads[0]).parameter_set.map(|set| set.0), Some([0x42, 0xe0, 0x1f]));
        assert!(inspect(&payloads[1]).idr && !inspect(&payloads[2]).idr);
        for payload in &payloads[1..payloads.len() - 1] {
            assert!(payload.len() <= PAYLOAD_MAX_BYTES && payload.len() == payloads[1].len());
            assert_eq!(stamp::read(payload), Some(sent));
        }
        let body: Vec<u8> = payloads[1..].iter().flat_map(|payload| payload[2..].to_vec()).collect();
        assert_eq!(body, picture.slice[1..]);
        assert_eq!(payloads.last().unwrap()[1] & 0xc0, 0x40);
    }
}
