//! What the API says, as JSON. Times are RFC 3339 in UTC; counters start with the publication or the session.

mod relays;

use std::time::SystemTime;

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    packaging::{PackagingState, RenditionState},
    relay::Pulls,
    track::{LayerReport, LayerRole, Notice, PublisherInfo, StandbyState, Stream, TrackState},
    transcode::ReencodingState,
    worker::ViewerState,
};

pub use relays::{Pull, Push};

/// All streams.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamList {
    /// Sorted by name.
    pub streams: Vec<StreamSummary>,
}

/// The server's other doors.
#[derive(Debug, Serialize, ToSchema)]
pub struct Doors {
    /// TCP port of RTMP, on the same host; null when it is off.
    #[schema(example = 1935)]
    pub rtmp_port: Option<u16>,
}

/// A stream that is published, waited for, or to be fetched from elsewhere.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamSummary {
    #[schema(example = "cam1")]
    pub name: String,
    /// Somebody publishes it now.
    pub live: bool,
    /// Since when it is published without a break.
    #[schema(example = "2026-01-31T12:00:00.000Z")]
    pub since: Option<String>,
    pub publisher: Option<Publisher>,
    /// The other publisher, where there are a primary and a backup: not on air at present.
    pub standby: Option<Standby>,
    pub tracks: Vec<Track>,
    /// What its publisher should know and change.
    pub notices: Vec<NoticeBody>,
    /// By WebRTC and by HLS.
    pub viewer_count: usize,
    /// The other server that it is fetched from (`relay.pull`): none, or one.
    pub pulls: Vec<Pull>,
}

/// A stream and who watches it.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamDetail {
    #[serde(flatten)]
    pub summary: StreamSummary,
    /// Sessions by WebRTC; who plays HLS has none, and is counted in `hls`.
    pub viewers: Vec<Viewer>,
    /// Null while it is not packaged.
    pub hls: Option<Hls>,
    /// Null unless its pictures are encoded anew, which takes B-frames and a viewer by WebRTC.
    pub reencoding: Option<Reencoding>,
    /// Null unless smaller pictures are made of it.
    pub ladder: Option<Reencoding>,
    /// The servers that it is sent on to (`relay.push`).
    pub pushes: Vec<Push>,
}

/// Pictures that are encoded anew.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reencoding {
    #[schema(example = "2026-01-31T12:00:05.000Z")]
    pub since: String,
    /// Null until one is found.
    #[schema(example = "x264")]
    pub encoder: Option<String>,
    /// From a picture's arrival until it is encoded; null while nothing comes.
    #[schema(example = 85.2)]
    pub latency_ms: Option<f64>,
    /// Of one core.
    #[schema(example = 0.42)]
    pub cpu_share: Option<f64>,
    /// Encoders begun so far.
    pub starts: u32,
    /// Why nothing comes at present: viewers get the pictures without B-frames then.
    pub failing: Option<String>,
}

/// A stream as HLS serves it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Hls {
    /// Since when it is packaged.
    #[schema(example = "2026-01-31T12:00:05.000Z")]
    pub since: String,
    /// Who has read a playlist lately.
    pub viewer_count: usize,
    /// Media that is kept, of all renditions.
    pub window_bytes: usize,
    /// `EXT-X-TARGETDURATION`.
    pub target_duration_s: u64,
    /// Why it cannot be packaged, or not all of it, and what to change.
    pub refusal: Option<String>,
    /// Null without `hls.output`, and until something is stored.
    pub output: Option<HlsOutput>,
    pub renditions: Vec<Rendition>,
}

/// What of it lies in the store of `hls.output`.
#[derive(Debug, Serialize, ToSchema)]
pub struct HlsOutput {
    /// Of all renditions, that are listed.
    pub segments: usize,
    /// What the store says against more; null while it takes it.
    pub failing: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Rendition {
    /// `video` or `audio`.
    #[schema(example = "video")]
    pub kind: &'static str,
    /// As RFC 6381 names them.
    #[schema(example = "avc1.64001f")]
    pub codecs: String,
    #[schema(example = 1280)]
    pub width: Option<u32>,
    #[schema(example = 720)]
    pub height: Option<u32>,
    pub frame_rate: Option<f64>,
    /// The publisher's name for the layer.
    #[schema(example = "h")]
    pub rid: Option<String>,
    /// Its publisher left, or stopped the layer.
    pub ended: bool,
    /// Of the segment that has most, in bits per second.
    pub peak_bps: u64,
    pub average_bps: u64,
    /// The media sequence number of the first segment that is listed.
    pub first_segment: u64,
    /// How many are listed, the one that grows too.
    pub segments: usize,
    /// How far back viewers can go.
    pub window_ms: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Publisher {
    #[schema(example = "7c0bd4f5-2a6b-4f38-9f0b-6b8f2a3f9a51")]
    pub session: String,
    /// `whip` or `rtmp`; `rtmp-pull`: fetched from another server (`relay.pull`), whose address is `remote`.
    #[schema(example = "whip")]
    pub protocol: &'static str,
    /// `primary` or `backup`.
    #[schema(example = "primary")]
    pub priority: &'static str,
    /// Its address and port.
    #[schema(example = "192.0.2.7:51000")]
    pub remote: String,
    /// What it calls itself; empty when unknown.
    pub user_agent: String,
    /// The `sub` of its token.
    pub subject: Option<String>,
}

/// A publisher that stands by.
#[derive(Debug, Serialize, ToSchema)]
pub struct Standby {
    #[serde(flatten)]
    pub publisher: Publisher,
    #[schema(example = "2026-01-31T12:00:00.000Z")]
    pub since: String,
    /// It has sent what viewers could begin with.
    pub ready: bool,
    /// What it should know and change.
    pub notices: Vec<NoticeBody>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Track {
    /// `video` or `audio`.
    #[schema(example = "video")]
    pub kind: &'static str,
    /// By its SDP name.
    #[schema(example = "H264")]
    pub codec: &'static str,
    /// Format parameters as SDP has them.
    #[schema(example = "profile-level-id=42e01f;packetization-mode=1")]
    pub fmtp: String,
    pub channels: u8,
    /// Of the pictures, in samples; null for sound, and until a keyframe has said it.
    #[schema(example = 1280)]
    pub width: Option<u32>,
    #[schema(example = 720)]
    pub height: Option<u32>,
    /// Over all layers that the publisher sends, like the two that follow.
    pub packets: u64,
    pub bytes: u64,
    pub keyframes: u64,
    /// The encodings of it that the publisher sends (simulcast), in its order, and those made here; a viewer gets one of them.
    pub layers: Vec<Layer>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Layer {
    /// The publisher's name for it; null where it sends one only.
    #[schema(example = "h")]
    pub rid: Option<String>,
    /// Of the pictures, in samples; null for sound, and until a keyframe has said it.
    #[schema(example = 1280)]
    pub width: Option<u32>,
    #[schema(example = 720)]
    pub height: Option<u32>,
    /// What arrives at present, in bits per second.
    #[schema(example = 1_500_000)]
    pub bitrate_bps: u64,
    /// Viewers can have it at present.
    pub active: bool,
    /// `sent` by the publisher; `replaced`: sent, but viewers get what is made of it here; `made` here, such as pictures encoded anew
    /// without B-frames.
    #[schema(example = "sent")]
    pub role: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct NoticeBody {
    /// Stable, for programs.
    #[schema(example = "b-frames-dropped")]
    pub code: &'static str,
    /// For people.
    pub text: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Viewer {
    #[schema(example = "0d3c6f8e-7a53-4b5b-8f5e-1c1f6c0f6a11")]
    pub session: String,
    #[schema(example = "whep")]
    pub protocol: &'static str,
    /// The HTTP client's address and port.
    #[schema(example = "192.0.2.8:40112")]
    pub from: String,
    pub user_agent: String,
    /// The `sub` of its token.
    pub subject: Option<String>,
    #[schema(example = "2026-01-31T12:00:05.000Z")]
    pub since: String,
    /// Media can flow: ICE and DTLS are done.
    pub connected: bool,
    pub packets_sent: u64,
    pub bytes_sent: u64,
    /// To the viewer and back, by its last report; null until it has reported.
    #[schema(example = 38.5)]
    pub round_trip_ms: Option<f64>,
    /// Of what was sent between its last two reports, before anything was sent again: from 0 to 1.
    #[schema(example = 0.004)]
    pub lost_share: Option<f64>,
    /// What the path to it carries, by the viewer's own estimate, in bits per second; null where it makes none. While the path was
    /// never full it is at most half more than what is sent.
    #[schema(example = 4_200_000)]
    pub bandwidth_bps: Option<u64>,
}

impl StreamSummary {
    pub fn of(stream: &Stream, pulls: &Pulls) -> Self {
        let mut state = stream.state();
        // Video first, whichever came first.
        state.tracks.sort_by_key(|track| std::cmp::Reverse(track.format.codec.kind()));
        Self {
            name: stream.name().to_string(),
            live: state.publisher.is_some(),
            since: state.since.map(rfc3339),
            publisher: state.publisher.map(Publisher::from),
            standby: state.standby.map(Standby::from),
            tracks: state.tracks.into_iter().map(Track::from).collect(),
            notices: state.notices.into_iter().map(NoticeBody::from).collect(),
            viewer_count: state.viewers,
            pulls: pulls.report(stream.name()).into_iter().map(Pull::from).collect(),
        }
    }
}

impl From<PackagingState> for Hls {
    fn from(state: PackagingState) -> Self {
        Self {
            since: rfc3339(state.since),
            viewer_count: state.viewers,
            window_bytes: state.window_bytes,
            target_duration_s: state.target_duration.as_secs(),
            refusal: state.refusal,
            output: state.output.map(|output| HlsOutput { segments: output.segments, failing: output.failing }),
            renditions: state.renditions.into_iter().map(Rendition::from).collect(),
        }
    }
}

impl From<ReencodingState> for Reencoding {
    fn from(state: ReencodingState) -> Self {
        Self {
            since: rfc3339(state.since),
            encoder: state.encoder.map(|encoder| encoder.to_string()),
            latency_ms: state.latency.map(|latency| rounded(latency.as_secs_f64() * 1_000.0)),
            cpu_share: state.cpu_share.map(rounded),
            starts: state.starts,
            failing: state.failing,
        }
    }
}

impl From<RenditionState> for Rendition {
    fn from(state: RenditionState) -> Self {
        Self {
            kind: state.kind.as_str(),
            codecs: state.codecs,
            width: state.size.map(|size| size.width),
            height: state.size.map(|size| size.height),
            frame_rate: state.frame_rate,
            rid: state.rid,
            ended: state.ended,
            peak_bps: state.peak_bps,
            average_bps: state.average_bps,
            first_segment: state.first_segment,
            segments: state.segments,
            window_ms: state.window.as_millis() as u64,
        }
    }
}

impl From<PublisherInfo> for Publisher {
    fn from(info: PublisherInfo) -> Self {
        Self {
            session: info.session.to_string(),
            protocol: info.protocol.as_str(),
            priority: info.priority.as_str(),
            remote: info.remote.to_string(),
            user_agent: info.user_agent,
            subject: info.subject,
        }
    }
}

impl From<StandbyState> for Standby {
    fn from(state: StandbyState) -> Self {
        Self {
            publisher: state.publisher.into(),
            since: rfc3339(state.since),
            ready: state.ready,
            notices: state.notices.into_iter().map(NoticeBody::from).collect(),
        }
    }
}

impl From<TrackState> for Track {
    fn from(state: TrackState) -> Self {
        Self {
            kind: state.format.codec.kind().as_str(),
            codec: state.format.codec.sdp_name(),
            fmtp: state.format.fmtp,
            channels: state.format.channels,
            width: state.size.map(|size| size.width),
            height: state.size.map(|size| size.height),
            packets: state.packets,
            bytes: state.bytes,
            keyframes: state.keyframes,
            layers: state.layers.into_iter().map(Layer::from).collect(),
        }
    }
}

impl From<LayerReport> for Layer {
    fn from(LayerReport { state, bitrate_bps }: LayerReport) -> Self {
        Self {
            rid: state.rid,
            width: state.size.map(|size| size.width),
            height: state.size.map(|size| size.height),
            bitrate_bps,
            active: state.active,
            role: match state.role {
                LayerRole::Sent => "sent",
                LayerRole::Replaced => "replaced",
                LayerRole::Made | LayerRole::Rung => "made",
            },
        }
    }
}

impl From<Notice> for NoticeBody {
    fn from(notice: Notice) -> Self {
        Self { code: notice.code, text: notice.text }
    }
}

impl From<ViewerState> for Viewer {
    fn from(state: ViewerState) -> Self {
        Self {
            session: state.session.to_string(),
            protocol: "whep",
            from: state.from.to_string(),
            user_agent: state.user_agent,
            subject: state.subject,
            since: rfc3339(state.since),
            connected: state.connected,
            packets_sent: state.packets_sent,
            bytes_sent: state.bytes_sent,
            round_trip_ms: state.path.round_trip.map(|rtt| rounded(rtt.as_secs_f64() * 1_000.0)),
            lost_share: state.path.lost_share.map(|share| rounded(f64::from(share))),
            bandwidth_bps: state.path.bandwidth_bps,
        }
    }
}

/// To thousandths: what lies below is noise.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
