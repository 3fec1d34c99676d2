//! WebRTC sessions with other servers, of the `webrtc` crate: an offer with all its candidates, the answer, and what becomes of the connection.
//! For sending and receiving both; how offers and answers travel is [`super::endpoint`]'s.
//!
//! The crate runs each connection in a task of its own, behind bounded channels. What it is not trusted with: datagrams are looked at before it sees
//! them ([`super::sockets`]), and so are requests for repeats ([`super::feedback`]); a panic there ends its task and nothing else, and is seen here as a
//! write that fails; the state of a connection is watched, so no word of it is lost or piles up.

use std::{net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rtc::{
    ice::mdns::MulticastDnsMode,
    interceptor::{NackResponderBuilder, Registry, Slot},
    media_stream::MediaStreamTrack,
    peer_connection::{
        configuration::{media_engine::MediaEngine, setting_engine::SettingEngineBuilder},
        sdp::RTCSessionDescription,
    },
    rtp_transceiver::{
        RTCRtpTransceiverDirection, RTCRtpTransceiverInit,
        rtp_sender::{
            RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
            RTCRtpHeaderExtensionCapability, RTCRtpRtxParameters, RtpCodecKind,
        },
    },
};
use sluice_signaling::sdp::{AcceptedCodec, NegotiatedMedia};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use webrtc::{
    media_stream::{track_local::static_rtp::TrackLocalStaticRTP, track_remote::TrackRemote},
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState, RTCPeerConnectionState,
    },
};

use super::{
    answer::readable,
    feedback::{Feedback, LAST_SLOT, REPEAT_SLOT, Repeats},
    sockets::{Door, End, Guarded},
};
use crate::media::MediaKind;

/// Until the addresses of this machine are known: nobody is asked for them.
const GATHER_DEADLINE: Duration = Duration::from_secs(5);
/// From the answer until media can flow.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// To say goodbye in.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// Silence after which a connection counts as shaky, and how long it may be that before it is lost.
const SHAKY_AFTER: Duration = Duration::from_secs(5);
const LOST_AFTER: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// Sockets of a connection, one for each address of this machine.
const ADDRESSES_MAX: usize = 8;
/// Packets kept for repeats, of each track: a second of 10 Mb/s. A power of two.
const REPEAT_PACKETS: u16 = 1_024;
/// A session has one track of pictures and one of sound.
const TRACKS_MAX: usize = 2;

/// Which section a packet belongs to (RFC 9143 section 15), for servers that do not go by what the offer says of SSRCs.
const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const ABS_CAPTURE_TIME_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";

/// A connection to another server.
pub(super) struct Peer {
    connection: Box<dyn PeerConnection>,
    _end: End,
    offered: Vec<NegotiatedMedia>,
    states: watch::Receiver<RTCPeerConnectionState>,
    gathered: watch::Receiver<bool>,
    /// Those that the other side sends, at most [`TRACKS_MAX`].
    pub tracks: mpsc::Receiver<Arc<dyn TrackRemote>>,
}

/// What the connection tells.
struct Told {
    states: watch::Sender<RTCPeerConnectionState>,
    gathered: watch::Sender<bool>,
    tracks: mpsc::Sender<Arc<dyn TrackRemote>>,
    door: Arc<Mutex<Door>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Told {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathered.send_replace(state == RTCIceGatheringState::Complete);
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            self.door.lock().connected();
        }
        self.states.send_replace(state);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let _ = self.tracks.try_send(track);
    }
}

impl Peer {
    /// `media`: the sections to be offered, with their codecs, as [`sluice_signaling::sdp::offered`] makes them. `loopback`: the server is on
    /// this machine.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn new(media: &[NegotiatedMedia], loopback: bool) -> Result<Self, String> {
        Self::with(media, loopback, &[MID_URI]).await
    }

    /// The same to receive: what the other side may say of its packets is wished for, too. Loss and reports are their reader's to see to.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn receiver(media: &[NegotiatedMedia], loopback: bool) -> Result<Self, String> {
        Self::with(media, loopback, &[MID_URI, ABS_CAPTURE_TIME_URI]).await
    }

    async fn with(media: &[NegotiatedMedia], loopback: bool, extensions: &[&str]) -> Result<Self, String> {
        let mut engine = MediaEngine::default();
        for section in media {
            codecs(&mut engine, section, extensions).map_err(|error| format!("no offer: {error}"))?;
        }
        let registry = Registry::new()
            .with(Slot::NackResponder, NackResponderBuilder::new().with_size(REPEAT_PACKETS).build())
            .with(REPEAT_SLOT, Repeats::default())
            .with(LAST_SLOT, Feedback::default());
        let settings = SettingEngineBuilder::new()
            .with_ice_timeouts(Some(SHAKY_AFTER), Some(LOST_AFTER), Some(KEEP_ALIVE_INTERVAL))
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_include_loopback_candidate(loopback)
            .build();
        let (states, states_told) = watch::channel(RTCPeerConnectionState::New);
        let (gathered, gathered_told) = watch::channel(false);
        let (tracks, tracks_told) = mpsc::channel(TRACKS_MAX);
        let runtime = Guarded::default();
        let end = runtime.end();
        let told = Told { states, gathered, tracks, door: runtime.door() };
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(settings)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(told))
            .with_runtime(Arc::new(runtime))
            .with_udp_addrs(addresses(loopback).into_iter().map(|ip| (ip, 0)).collect())
            .build()
            .await
            .map_err(|error| format!("no WebRTC connection: {error}"))?;
        let connection = Box::new(connection);
        let offered = media.to_vec();
        Ok(Self { connection, _end: end, offered, states: states_told, gathered: gathered_told, tracks: tracks_told })
    }

    /// Offers to send a track in this codec, under random names of its own.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn send(&self, kind: MediaKind, codec: &AcceptedCodec) -> Result<Sending, String> {
        let ssrc = rand::random();
        let rtx = codec.rtx_payload_type.map(|_| RTCRtpRtxParameters { ssrc: rand::random() });
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), rtx, ..Default::default() },
            codec: parameters(codec).rtp_codec,
            ..Default::default()
        };
        let of_kind = rtp_kind(kind);
        let track =
            MediaStreamTrack::new("sluice".into(), kind.as_str().into(), kind.as_str().into(), of_kind, vec![encoding]);
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        let only = RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Sendonly, ..Default::default() };
        let added = self.connection.add_transceiver_from_track(track.clone(), Some(only)).await;
        let transceiver = added.map_err(|error| format!("no offer: {error}"))?;
        Ok(Sending { ssrc, track, transceiver })
    }

    /// Offers to receive a track.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn receive(&self, kind: MediaKind) -> Result<(), String> {
        let only = RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() };
        let added = self.connection.add_transceiver_from_kind(rtp_kind(kind), Some(only)).await;
        added.map(|_| ()).map_err(|error| format!("no offer: {error}"))
    }

    /// The offer, with all addresses of this machine.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn offer(&mut self) -> Result<String, String> {
        let told = |error: webrtc::error::Error| format!("no offer: {error}");
        let offer = self.connection.create_offer(None).await.map_err(told)?;
        self.connection.set_local_description(offer).await.map_err(told)?;
        let gathered = timeout(GATHER_DEADLINE, self.gathered.wait_for(|gathered| *gathered)).await;
        if !gathered.is_ok_and(|gathered| gathered.is_ok()) {
            return Err("no offer: the addresses of this machine were not found out".into());
        }
        let offer = self.connection.local_description().await;
        offer.map(|offer| offer.sdp).ok_or_else(|| "no offer: there is no description".into())
    }

    /// Takes the answer, and waits until media can flow.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn connect(&mut self, answer: String) -> Result<(), String> {
        let answer = RTCSessionDescription::answer(readable(&answer, &self.offered))
            .map_err(|error| format!("its answer is no SDP: {error}"))?;
        let taken = self.connection.set_remote_description(answer).await;
        taken.map_err(|error| format!("its answer cannot be used: {error}"))?;
        let settled = |state: &RTCPeerConnectionState| *state == RTCPeerConnectionState::Connected || is_over(*state);
        match timeout(CONNECT_DEADLINE, self.states.wait_for(settled)).await {
            Ok(Ok(state)) if *state == RTCPeerConnectionState::Connected => Ok(()),
            Ok(_) => Err("it answered, but no connection for media came up: is UDP let through?".into()),
            Err(_) => Err("it answered, but no connection for media came up within 10 s: is UDP let through?".into()),
        }
    }

    /// Waits until the connection is lost.
    pub(super) async fn lost(&mut self) -> String {
        match self.states.wait_for(|state| is_over(*state)).await.map(|state| *state) {
            Ok(RTCPeerConnectionState::Closed) => "it closed the connection".into(),
            Ok(_) => "the connection for media is lost".into(),
            Err(_) => "the connection for media has failed".into(),
        }
    }

    pub(super) async fn close(self) {
        let _ = timeout(CLOSE_DEADLINE, self.connection.close()).await;
    }
}

/// A track that is sent.
pub(super) struct Sending {
    pub ssrc: u32,
    pub track: Arc<TrackLocalStaticRTP>,
    transceiver: Arc<dyn webrtc::rtp_transceiver::RtpTransceiver>,
}

impl Sending {
    /// The payload type that the answer chose; none: it refuses the track.
    pub(super) async fn payload_type(&self) -> Option<u8> {
        let direction = self.transceiver.current_direction().await.ok()?;
        let sender = self.transceiver.sender().await.ok()??;
        let codecs = sender.get_parameters().await.ok()?.rtp_parameters.codecs;
        Some(codecs.first()?.payload_type).filter(|_| direction.has_send())
    }

    /// The id of the extension that says which section a packet belongs to, and the section's name, where both sides have it.
    pub(super) async fn mid(&self) -> Option<(u8, bytes::Bytes)> {
        let sender = self.transceiver.sender().await.ok()??;
        let extensions = sender.get_parameters().await.ok()?.rtp_parameters.header_extensions;
        let id = extensions.iter().find(|extension| extension.uri == MID_URI)?.id;
        // Those of a byte (RFC 8285 section 4.2).
        let id = u8::try_from(id).ok().filter(|id| (1..=14).contains(id))?;
        let mid = self.transceiver.mid().await.ok()??;
        (1..=16).contains(&mid.len()).then(|| (id, mid.into()))
    }
}

fn is_over(state: RTCPeerConnectionState) -> bool {
    matches!(state, RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed)
}

fn rtp_kind(kind: MediaKind) -> RtpCodecKind {
    match kind {
        MediaKind::Audio => RtpCodecKind::Audio,
        MediaKind::Video => RtpCodecKind::Video,
    }
}

/// Registers what a section offers.
fn codecs(
    engine: &mut MediaEngine,
    section: &NegotiatedMedia,
    extensions: &[&str],
) -> Result<(), webrtc::error::Error> {
    let kind = rtp_kind(section.kind);
    for codec in &section.codecs {
        engine.register_codec(parameters(codec), kind)?;
        if let Some(payload_type) = codec.rtx_payload_type {
            let rtx = RTCRtpCodec {
                mime_type: "video/rtx".into(),
                clock_rate: codec.codec.clock_rate_hz(),
                sdp_fmtp_line: format!("apt={}", codec.payload_type),
                ..Default::default()
            };
            engine.register_codec(RTCRtpCodecParameters { rtp_codec: rtx, payload_type }, kind)?;
        }
    }
    for uri in extensions {
        let uri = (*uri).to_owned();
        engine.register_header_extension(RTCRtpHeaderExtensionCapability { uri }, kind, None)?;
    }
    Ok(())
}

fn parameters(codec: &AcceptedCodec) -> RTCRtpCodecParameters {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.into(), parameter: parameter.into() };
    let kind = codec.codec.kind();
    let rtcp_feedback = match kind {
        MediaKind::Audio => Vec::new(),
        MediaKind::Video => vec![feedback("nack", ""), feedback("nack", "pli"), feedback("ccm", "fir")],
    };
    let rtp_codec = RTCRtpCodec {
        mime_type: format!("{}/{}", kind.as_str(), codec.codec.sdp_name()),
        clock_rate: codec.codec.clock_rate_hz(),
        channels: if kind == MediaKind::Audio { codec.channels.into() } else { 0 },
        sdp_fmtp_line: codec.fmtp.clone(),
        rtcp_feedback,
    };
    RTCRtpCodecParameters { rtp_codec, payload_type: codec.payload_type }
}

/// The addresses that connections are made from.
fn addresses(loopback: bool) -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut own: Vec<_> = interfaces.iter().map(if_addrs::Interface::ip).filter(|ip| is_usable(ip, loopback)).collect();
    own.sort_by_key(|ip| (ip.is_loopback() != loopback, ip.is_ipv6()));
    own.dedup();
    own.truncate(ADDRESSES_MAX);
    own
}

/// Link-local ones need a zone, which SDP cannot carry.
fn is_usable(ip: &IpAddr, loopback: bool) -> bool {
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !ip.is_unspecified() && !is_link_local && (loopback || !ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use sluice_signaling::sdp::offered;

    use super::*;
    use crate::media::{Codec, TrackFormat};

    #[tokio::test]
    async fn an_offer_has_each_track_in_its_codec_and_the_addresses_of_this_machine() {
        let live = [format(Codec::H264, "profile-level-id=640c1f", 1), format(Codec::Opus, "", 2)];
        let mut media = offered(&live).media;
        media.iter_mut().for_each(|section| section.codecs.truncate(1));
        let mut peer = Peer::new(&media, true).await.unwrap();
        for section in &media {
            peer.send(section.kind, section.codecs.first().unwrap()).await.unwrap();
        }
        let offer = peer.offer().await.unwrap();
        for line in [
            "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
            "m=audio 9 UDP/TLS/RTP/SAVPF 111",
            "a=rtpmap:96 H264/90000",
            "a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f",
            "a=fmtp:97 apt=96",
            "a=rtcp-fb:96 nack pli",
            "a=rtpmap:111 opus/48000/2",
            "a=sendonly",
            "a=ssrc-group:FID",
            "a=extmap:",
            "a=candidate:",
            "a=end-of-candidates",
        ] {
            assert!(offer.lines().any(|at| at.trim_end().starts_with(line)), "no {line} in\n{offer}");
        }
        assert_eq!(offer.matches("a=sendonly").count(), 2, "{offer}");
        assert!(!offer.contains("m=application") && !offer.contains(".local"), "{offer}");
        peer.close().await;
    }

    fn format(codec: Codec, fmtp: &str, channels: u8) -> TrackFormat {
        TrackFormat { codec, fmtp: fmtp.into(), channels }
    }

    /// A server that takes sound only, and names an address that nobody has.
    const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 1\r\na=ice-lite\r\n\
        m=video 0 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=inactive\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=recvonly\r\na=rtcp-mux\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\na=setup:passive\r\n\
        a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
        a=rtpmap:111 opus/48000/2\r\na=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\n";

    #[tokio::test(start_paused = true)]
    async fn what_an_answer_refuses_is_known_and_a_server_that_cannot_be_reached_is_given_up() {
        let live = [format(Codec::H264, "", 1), format(Codec::Opus, "", 2)];
        let media = offered(&live).media;
        let mut peer = Peer::new(&media, true).await.unwrap();
        let mut sendings = Vec::new();
        for section in &media {
            sendings.push(peer.send(section.kind, section.codecs.first().unwrap()).await.unwrap());
        }
        peer.offer().await.unwrap();
        let failed = peer.connect(ANSWER.into()).await.unwrap_err();
        assert!(failed.contains("is UDP let through?"), "{failed}");
        let types = [sendings[0].payload_type().await, sendings[1].payload_type().await];
        assert_eq!(types, [None, Some(111)]);
        peer.close().await;
    }

    #[tokio::test]
    async fn a_connection_that_is_dropped_leaves_nothing_behind() {
        let media = offered(&[format(Codec::Opus, "", 2)]).media;
        let mut peer = Peer::new(&media, true).await.unwrap();
        peer.send(MediaKind::Audio, media[0].codecs.first().unwrap()).await.unwrap();
        let offer = peer.offer().await.unwrap();
        let candidate = offer.lines().find(|line| line.contains(" 127.0.0.1 ")).unwrap();
        let port: u16 = candidate.split(' ').nth(5).unwrap().parse().unwrap();
        let is_free = || std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok();
        assert!(!is_free());
        drop(peer);
        let freed = async {
            while !is_free() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), freed).await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_is_none_is_refused() {
        let mut peer = Peer::new(&offered(&[format(Codec::Opus, "", 2)]).media, true).await.unwrap();
        peer.offer().await.unwrap();
        assert!(peer.connect("<html>".into()).await.is_err());
    }
}
