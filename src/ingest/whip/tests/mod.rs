//! Rules of the receiver, by name, on a virtual clock: what the tests share.

mod clocks;
mod feedback;
mod hostile;
mod media;
mod network;
mod routing;
mod simulcast;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use parking_lot::Mutex;
use sluice_signaling::sdp::{AcceptedCodec, ExtensionIds, Feedback, Negotiated, NegotiatedMedia};

use super::WhipReceiver;
use crate::{
    config::OnConflict,
    media::{CaptureTime, Codec, MediaKind, SessionId, TrackFormat, testing::epoch},
    rtp::rtcp::{Rtcp, RtcpReader},
    track::{
        ClockReference, Delivery, EndReason, LayerIndex, LayerSet, PacketSink, Protocol, PublisherControl,
        PublisherInfo, Stream, Streams, TrackIndex, TrackPacket, WorkerIndex,
    },
};

const VP8: u8 = 96;
const VP8_RTX: u8 = 97;
const H264: u8 = 102;
const H264_RTX: u8 = 103;
const OPUS: u8 = 111;
const VIDEO_SSRC: u32 = 0x1000;
const RTX_SSRC: u32 = 0x1001;
const AUDIO_SSRC: u32 = 0x2000;

/// A VP8 keyframe's first packet, an inter frame's, and a continuation.
const KEY: &[u8] = &[0x10, 0x50, 0, 0];
const DELTA: &[u8] = &[0x10, 0x51, 0, 0];
const MORE: &[u8] = &[0x00, 9, 9, 9];

const IDS: ExtensionIds = ExtensionIds {
    mid: Some(1),
    rid: Some(2),
    repaired_rid: Some(3),
    abs_send_time: None,
    transport_cc: Some(4),
    playout_delay: None,
    abs_capture_time: Some(5),
};

/// The server's time of day at the tests' origin, since 1970.
const SERVER_TIME: Duration = Duration::from_secs(1_700_000_000);

fn ms(ms: u64) -> Instant {
    epoch() + Duration::from_millis(ms)
}

fn codec(codec: Codec, payload_type: u8, rtx: Option<u8>) -> AcceptedCodec {
    let video = codec.kind() == MediaKind::Video;
    let fmtp = if codec == Codec::H264 { "packetization-mode=1;profile-level-id=42e01f" } else { "" };
    AcceptedCodec {
        codec,
        payload_type,
        fmtp: fmtp.into(),
        channels: if video { 1 } else { 2 },
        rtx_payload_type: rtx,
        feedback: Feedback { nack: video, pli: video, fir: video, transport_cc: true, remb: false },
    }
}

fn section(mid: &str, codecs: Vec<AcceptedCodec>) -> NegotiatedMedia {
    let kind = codecs[0].codec.kind();
    NegotiatedMedia { mid: mid.into(), kind, codecs, extensions: IDS, remote_ssrcs: Vec::new(), rids: Vec::new() }
}

/// What a browser and we agree on: VP8 and H.264 with RTX, and Opus.
fn browser() -> Negotiated {
    let video = vec![codec(Codec::Vp8, VP8, Some(VP8_RTX)), codec(Codec::H264, H264, Some(H264_RTX))];
    Negotiated { media: vec![section("0", vec![codec(Codec::Opus, OPUS, None)]), section("1", video)] }
}

const AUDIO: TrackIndex = TrackIndex(0);
const VIDEO: TrackIndex = TrackIndex(1);

/// An RTP packet to be written.
#[derive(Debug, Clone)]
struct Rtp {
    payload_type: u8,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
    mid: Option<&'static str>,
    rid: Option<&'static str>,
    repaired_rid: Option<&'static str>,
    transport_sequence: Option<u16>,
    capture: Option<CaptureTime>,
    padding: u8,
}

fn video(sequence: u16, timestamp: u32, payload: &[u8]) -> Rtp {
    Rtp {
        payload_type: VP8,
        ssrc: VIDEO_SSRC,
        sequence,
        timestamp,
        marker: false,
        payload: payload.to_vec(),
        mid: None,
        rid: None,
        repaired_rid: None,
        transport_sequence: None,
        capture: None,
        padding: 0,
    }
}

fn audio(sequence: u16, timestamp: u32) -> Rtp {
    Rtp { payload_type: OPUS, ssrc: AUDIO_SSRC, ..video(sequence, timestamp, &[1, 2, 3]) }
}

fn probe(sequence: u16) -> Rtp {
    Rtp { padding: 200, ..video(sequence, 0, &[]) }
}

/// A packet as its retransmission (RFC 4588).
fn rtx(original: &Rtp, sequence: u16) -> Rtp {
    let mut payload = original.sequence.to_be_bytes().to_vec();
    payload.extend_from_slice(&original.payload);
    Rtp { payload_type: VP8_RTX, ssrc: RTX_SSRC, sequence, payload, ..original.clone() }
}

impl Rtp {
    fn write(&self) -> Bytes {
        let mut elements = Vec::new();
        let texts = [(1, self.mid), (2, self.rid), (3, self.repaired_rid)];
        for (id, text) in texts.into_iter().filter_map(|(id, text)| Some((id, text?))) {
            elements.push(id << 4 | (text.len() as u8 - 1));
            elements.extend_from_slice(text.as_bytes());
        }
        if let Some(sequence) = self.transport_sequence {
            elements.push(4 << 4 | 1);
            elements.extend_from_slice(&sequence.to_be_bytes());
        }
        if let Some(capture) = self.capture {
            elements.push(5 << 4 | 15);
            elements.extend_from_slice(&capture.to_bytes());
        }
        elements.resize(elements.len().next_multiple_of(4), 0);
        let flags = 0x80 | if elements.is_empty() { 0 } else { 0x10 } | if self.padding > 0 { 0x20 } else { 0 };
        let mut out = vec![flags, u8::from(self.marker) << 7 | self.payload_type];
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        if !elements.is_empty() {
            out.extend_from_slice(&[0xbe, 0xde, 0, (elements.len() / 4) as u8]);
            out.extend_from_slice(&elements);
        }
        out.extend_from_slice(&self.payload);
        if self.padding > 0 {
            out.resize(out.len() + usize::from(self.padding), 0);
            *out.last_mut().unwrap() = self.padding;
        }
        out.into()
    }
}

/// What the tree was told, and what it asked for.
#[derive(Default)]
struct Watcher {
    deliveries: Mutex<Vec<Delivery>>,
    keyframe_requests: Mutex<Vec<(TrackIndex, LayerIndex)>>,
}

impl PacketSink for Watcher {
    fn deliver(&self, _stream: &Arc<Stream>, delivery: Delivery) -> bool {
        self.deliveries.lock().push(delivery);
        true
    }
}

impl PublisherControl for Watcher {
    fn request_keyframe(&self, track: TrackIndex, layer: LayerIndex) {
        self.keyframe_requests.lock().push((track, layer));
    }

    fn end(&self, _reason: EndReason) {}
}

/// A receiver between a publisher and a tree, driven as its contract says.
struct Bench {
    streams: Streams,
    watcher: Arc<Watcher>,
    receiver: WhipReceiver,
}

impl Bench {
    fn new(media: &Negotiated) -> Self {
        let streams = Streams::default();
        let watcher = Arc::new(Watcher::default());
        let publication = publish(&streams, watcher.clone());
        let stream = publication.stream().clone();
        stream.subscribe(WorkerIndex(0), watcher.clone());
        let receiver = WhipReceiver::new(epoch(), SystemTime::UNIX_EPOCH + SERVER_TIME, media, publication).unwrap();
        stream.want_layers(WorkerIndex(0), 1, VIDEO, (0..4).map(LayerIndex).collect());
        Self { streams, watcher, receiver }
    }

    /// One packet, and the socket is drained.
    fn receive(&mut self, now: Instant, packet: &Rtp) {
        self.receiver.handle_rtp(now, packet.write());
        self.receiver.flush(now).unwrap();
        self.bring_wishes(now);
    }

    /// What the worker does with the tree's wishes.
    fn bring_wishes(&mut self, now: Instant) {
        for (track, layer) in std::mem::take(&mut *self.watcher.keyframe_requests.lock()) {
            self.receiver.request_keyframe(now, track, layer);
        }
    }

    /// Lets time pass, timer by timer, and returns the RTCP that is sent meanwhile.
    fn run_until(&mut self, until: Instant) -> Vec<(Instant, Bytes)> {
        let mut sent = Vec::new();
        let mut timers = 0;
        while let Some(due) = self.receiver.poll_timeout().filter(|due| *due <= until) {
            timers += 1;
            assert!(timers < 10_000, "the timer does not move on from {:?}", due - epoch());
            self.receiver.handle_timeout(due);
            self.bring_wishes(due);
            while let Some(compound) = self.receiver.poll_rtcp(due) {
                sent.push((due, compound));
            }
        }
        sent
    }

    /// The track's packets so far, in order of delivery.
    fn packets(&self, track: TrackIndex) -> Vec<Arc<TrackPacket>> {
        self.packets_of(track, LayerIndex(0))
    }

    fn packets_of(&self, track: TrackIndex, layer: LayerIndex) -> Vec<Arc<TrackPacket>> {
        let mut packets = Vec::new();
        for delivery in &*self.watcher.deliveries.lock() {
            if let Delivery::Packets(batches) = delivery {
                let of_track = batches.iter().filter(|batch| batch.track == track && batch.layer == layer);
                packets.extend(of_track.flat_map(|batch| batch.packets.iter().cloned()));
            }
        }
        packets
    }

    /// Numbers of the track's packets, counted from the first one's.
    fn numbers(&self, track: TrackIndex) -> Vec<i64> {
        self.numbers_of(track, LayerIndex(0))
    }

    fn numbers_of(&self, track: TrackIndex, layer: LayerIndex) -> Vec<i64> {
        let packets = self.packets_of(track, layer);
        packets.iter().map(|packet| packet.seq.0 as i64 - packets[0].seq.0 as i64).collect()
    }

    fn clocks(&self, track: TrackIndex) -> Vec<ClockReference> {
        self.clocks_of(track, LayerIndex(0))
    }

    fn clocks_of(&self, track: TrackIndex, layer: LayerIndex) -> Vec<ClockReference> {
        let deliveries = self.watcher.deliveries.lock();
        let clock_of = |delivery: &Delivery| match delivery {
            Delivery::Clock { track: of, layer: of_layer, reference } if (*of, *of_layer) == (track, layer) => {
                Some(*reference)
            }
            _ => None,
        };
        deliveries.iter().filter_map(clock_of).collect()
    }

    fn format(&self, track: TrackIndex) -> TrackFormat {
        let deliveries = self.watcher.deliveries.lock();
        let snapshot = deliveries.iter().rev().find_map(|delivery| match delivery {
            Delivery::Snapshot(snapshot) => Some(snapshot.clone()),
            _ => None,
        });
        snapshot.unwrap().tracks[usize::from(track.0)].format.clone()
    }
}

fn publish(streams: &Streams, control: Arc<Watcher>) -> crate::track::Publication {
    let info = PublisherInfo {
        session: SessionId::random(),
        protocol: Protocol::Whip,
        priority: Default::default(),
        remote: ([127, 0, 0, 1], 9).into(),
        user_agent: String::new(),
        subject: None,
    };
    let name = "cam1".parse().unwrap();
    streams.publish(&name, info, control, OnConflict::Takeover, SystemTime::UNIX_EPOCH).unwrap()
}

/// Everything of one kind in what was sent.
fn said<T>(sent: &[(Instant, Bytes)], pick: impl Fn(Rtcp<'_>) -> Option<T>) -> Vec<(u64, T)> {
    let mut said = Vec::new();
    for (at, compound) in sent {
        let at_ms = (*at - epoch()).as_millis() as u64;
        said.extend(RtcpReader::new(compound).filter_map(&pick).map(|picked| (at_ms, picked)));
    }
    said
}

fn nacked(sent: &[(Instant, Bytes)]) -> Vec<(u64, Vec<u16>)> {
    said(sent, |meaning| match meaning {
        Rtcp::Nack { media_ssrc: VIDEO_SSRC, sequences } => Some(sequences.collect()),
        _ => None,
    })
}

fn plis(sent: &[(Instant, Bytes)]) -> Vec<u64> {
    let plis = said(sent, |meaning| (meaning == Rtcp::Pli { media_ssrc: VIDEO_SSRC }).then_some(()));
    plis.into_iter().map(|(at_ms, ())| at_ms).collect()
}

/// A seeded generator (Knuth's MMIX constants): the same network in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
