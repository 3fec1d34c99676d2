//! The server's counters, as Prometheus reads them (OpenMetrics 1.0 text). Everybody counts; nobody decides by them.
//!
//! In: additions from all rooms; packets are summed where they are handled and handed in once per round. Out: a text.
//! All series that can be named beforehand are there from the start, at 0, so that a rate over them misses nothing.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProtocolLabel {
    pub protocol: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    pub reason: &'static str,
}

/// How sessions end: the values of `outcome`. `undecodable`: a viewer's, over what another publisher sends. `unserved`: a viewer's that
/// waited in vain. `unanswered`: our offer to a viewer was.
/// `redirected`: sent to another node.
pub const OUTCOMES: [&str; 12] = [
    "ended",
    "refused",
    "redirected",
    "failed",
    "expired",
    "kicked",
    "superseded",
    "timeout",
    "draining",
    "undecodable",
    "unserved",
    "unanswered",
];
const PROTOCOLS: [&str; 6] = ["whip", "whep", "rtmp", "rtmp-pull", "whep-pull", "hls"];

/// `protocol`: `whip`, `whep`, `rtmp`, `rtmp-pull`, `whep-pull`, `hls`. `outcome`: one of [`OUTCOMES`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    pub protocol: &'static str,
    pub outcome: &'static str,
}

/// `codec`: its SDP name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CodecLabel {
    pub codec: &'static str,
}

/// `operation`: `put`, `delete`. `outcome`: `ok`, `failed`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutputLabels {
    pub operation: &'static str,
    pub outcome: &'static str,
}

/// What becomes of connections to other servers.
const RELAY_OUTCOMES: [&str; 3] = ["live", "failed", "ended"];

/// `direction`: `push`, `pull`. `outcome`: one of [`RELAY_OUTCOMES`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RelayLabels {
    pub direction: &'static str,
    pub outcome: &'static str,
}

/// `to`: `primary`, `backup`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PriorityLabel {
    pub to: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

/// A counter with one series for what comes in and one for what goes out.
#[derive(Debug, Clone)]
pub struct BothWays {
    pub received: Counter,
    pub sent: Counter,
}

/// All series; one instance per server, shared. The packet path adds to its own sums and hands them in once per round.
#[derive(Debug)]
pub struct Metrics {
    /// Set when the text is asked for; the other gauges go up and down with their sessions.
    pub streams: Gauge,
    /// Set when the text is asked for: sessions of WHIP and WHEP, those whose client has not connected yet too.
    pub webrtc_sessions: Gauge,
    pub publishers: Family<ProtocolLabel, Gauge>,
    pub viewers: Family<ProtocolLabel, Gauge>,
    /// From one publisher to the one that stood by.
    hand_overs: Family<PriorityLabel, Counter>,
    relays: Family<DirectionLabel, Gauge>,
    relay_connections: Family<RelayLabels, Counter>,
    pub relay_bytes: BothWays,
    pub rtp_packets: BothWays,
    pub rtp_bytes: BothWays,
    pub rtmp_bytes: BothWays,
    pub nack: BothWays,
    pub rtx_packets: Counter,
    pub pli: BothWays,
    pub join_seconds: Histogram,
    pub forward_seconds: Histogram,
    pub auth_failures: Family<ReasonLabel, Counter>,
    pub rate_limited: Counter,
    pub sessions: Family<OutcomeLabels, Counter>,
    /// Of `hls.output`.
    pub hls_output_requests: Family<OutputLabels, Counter>,
    pub hls_output_bytes: Counter,
    /// Streams whose pictures are encoded anew.
    pub reencoded_streams: Gauge,
    pub reencoded_pictures: Counter,
    /// From a picture's arrival until it is encoded.
    pub reencode_seconds: Histogram,
    pub reencoder_failures: Counter,
    pub reencoder_cpu_seconds: Counter<f64, AtomicU64>,
    /// Once per viewer and format.
    pub undecodable_tracks: Family<CodecLabel, Counter>,
    registry: Registry,
}

impl Metrics {
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("sluice");
        let r = &mut registry;
        let rtp_packets = both_ways(r, "rtp_packets", "RTP packets; in: also those made of what RTMP publishers send");
        let rtp_bytes = both_ways(r, "rtp_bytes", "Bytes of RTP packets, as they are on the network or would be");
        let rtmp_bytes = both_ways(r, "rtmp_bytes", "Bytes of RTMP connections");
        let relay_bytes =
            both_ways(r, "relay_bytes", "Bytes of streams that are sent on to other servers, or fetched from them");
        let nack = both_ways(r, "nack", "Packets asked for again by NACK");
        let pli = both_ways(r, "pli", "Keyframe requests");
        let metrics = Self {
            streams: Gauge::default(),
            webrtc_sessions: Gauge::default(),
            publishers: Family::default(),
            viewers: Family::default(),
            hand_overs: Family::default(),
            relays: Family::default(),
            relay_connections: Family::default(),
            relay_bytes,
            rtp_packets,
            rtp_bytes,
            rtmp_bytes,
            nack,
            rtx_packets: Counter::default(),
            pli,
            // 1 ms to 8 s: a join is tens of milliseconds, or waits for a keyframe.
            join_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            // 20 us to 0.3 s: forwarding is well under a millisecond, or something is wrong.
            forward_seconds: Histogram::new(exponential_buckets(0.000_02, 2.0, 15)),
            auth_failures: Family::default(),
            rate_limited: Counter::default(),
            sessions: Family::default(),
            hls_output_requests: Family::default(),
            hls_output_bytes: Counter::default(),
            reencoded_streams: Gauge::default(),
            reencoded_pictures: Counter::default(),
            // 5 ms to 5 s: pictures wait for those that are shown before them.
            reencode_seconds: Histogram::new(exponential_buckets(0.005, 2.0, 11)),
            reencoder_failures: Counter::default(),
            reencoder_cpu_seconds: Counter::default(),
            undecodable_tracks: Family::default(),
            registry: Registry::default(),
        };
        r.register("streams", "Streams that are published now", metrics.streams.clone());
        r.register(
            "webrtc_sessions",
            "WHIP and WHEP sessions, connecting and connected; webrtc.sessions_max is their bound",
            metrics.webrtc_sessions.clone(),
        );
        r.register("publishers", "Publishers connected now", metrics.publishers.clone());
        r.register("viewers", "Viewers connected now", metrics.viewers.clone());
        r.register(
            "publisher_hand_overs",
            "Times that a stream went over to the publisher that stood by",
            metrics.hand_overs.clone(),
        );
        r.register(
            "relays",
            "Streams that are sent on to another server now, one for each target, or fetched from one",
            metrics.relays.clone(),
        );
        r.register(
            "relay_connections",
            "Connections to other servers: those that came to carry a stream, that failed, and that ended as they should",
            metrics.relay_connections.clone(),
        );
        r.register("rtx_packets", "Packets sent again", metrics.rtx_packets.clone());
        r.register_with_unit(
            "join",
            "From a viewer's offer to its first keyframe packet sent",
            Unit::Seconds,
            metrics.join_seconds.clone(),
        );
        r.register_with_unit(
            "forward",
            "From a packet's arrival to its last copy sent",
            Unit::Seconds,
            metrics.forward_seconds.clone(),
        );
        r.register("auth_failures", "Requests refused for their token", metrics.auth_failures.clone());
        r.register(
            "rate_limited",
            "Requests refused because their client's address asks too often",
            metrics.rate_limited.clone(),
        );
        r.register("sessions", "Sessions that ended", metrics.sessions.clone());
        r.register(
            "hls_output_requests",
            "Objects put into the store of hls.output, and removed from it",
            metrics.hls_output_requests.clone(),
        );
        r.register("hls_output_bytes", "Bytes put into the store of hls.output", metrics.hls_output_bytes.clone());
        r.register(
            "reencoded_streams",
            "Streams that are encoded anew now: once without B-frames, once into smaller pictures",
            metrics.reencoded_streams.clone(),
        );
        r.register("reencoded_pictures", "Pictures encoded anew", metrics.reencoded_pictures.clone());
        r.register_with_unit(
            "reencode",
            "From a picture's arrival until it is encoded anew",
            Unit::Seconds,
            metrics.reencode_seconds.clone(),
        );
        r.register("reencoder_failures", "Encoders that failed", metrics.reencoder_failures.clone());
        r.register_with_unit(
            "reencoder_cpu",
            "Processor time of encoders",
            Unit::Seconds,
            metrics.reencoder_cpu_seconds.clone(),
        );
        r.register(
            "undecodable_tracks",
            "Tracks that a viewer could not decode when their publisher came",
            metrics.undecodable_tracks.clone(),
        );
        for codec in ["H264", "VP8", "VP9", "AV1"] {
            metrics.undecodable_tracks.get_or_create(&CodecLabel { codec }).inc_by(0);
        }
        for operation in ["put", "delete"] {
            for outcome in ["ok", "failed"] {
                metrics.hls_output_requests.get_or_create(&OutputLabels { operation, outcome }).inc_by(0);
            }
        }
        for protocol in PROTOCOLS {
            for outcome in OUTCOMES {
                metrics.sessions.get_or_create(&OutcomeLabels { protocol, outcome }).inc_by(0);
            }
        }
        for protocol in ["whip", "rtmp", "rtmp-pull", "whep-pull"] {
            metrics.publishers.get_or_create(&ProtocolLabel { protocol }).set(0);
        }
        for direction in ["push", "pull"] {
            metrics.relays(direction);
        }
        for (direction, outcome) in
            ["push", "pull"].into_iter().flat_map(|way| RELAY_OUTCOMES.map(|outcome| (way, outcome)))
        {
            metrics.relay_connections.get_or_create(&RelayLabels { direction, outcome }).inc_by(0);
        }
        for to in ["primary", "backup"] {
            metrics.hand_overs_to(to);
        }
        for protocol in ["whep", "hls"] {
            metrics.viewers.get_or_create(&ProtocolLabel { protocol }).set(0);
        }
        for reason in ["missing", "bad_signature", "expired"] {
            metrics.auth_failures.get_or_create(&ReasonLabel { reason }).inc_by(0);
        }
        Arc::new(Self { registry, ..metrics })
    }

    /// A request was refused for its token; `reason` as `sluice_signaling::token::Denied::reason` has it.
    pub fn count_auth_failure(&self, reason: &'static str) {
        self.auth_failures.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Connections to other servers that carry a stream now; `direction` as in [`RelayLabels`].
    pub fn relays(&self, direction: &'static str) -> Gauge {
        self.relays.get_or_create_owned(&DirectionLabel { direction })
    }

    /// What became of a connection to another server; see [`RelayLabels`].
    pub fn count_relay(&self, direction: &'static str, outcome: &'static str) {
        self.relay_connections.get_or_create(&RelayLabels { direction, outcome }).inc();
    }

    /// Counts the streams that went over to a publisher of that priority.
    pub fn hand_overs_to(&self, to: &'static str) -> Counter {
        self.hand_overs.get_or_create_owned(&PriorityLabel { to })
    }

    /// A session ended; `outcome` is one of [`OUTCOMES`].
    pub fn count_session(&self, protocol: &'static str, outcome: &'static str) {
        self.sessions.get_or_create(&OutcomeLabels { protocol, outcome }).inc();
    }

    /// The text exposition format.
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

fn both_ways(registry: &mut Registry, name: &str, help: &str) -> BothWays {
    let family = Family::<DirectionLabel, Counter>::default();
    registry.register(name, help, family.clone());
    let counter = |direction| family.get_or_create_owned(&DirectionLabel { direction });
    BothWays { received: counter("in"), sent: counter("out") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_the_name_that_is_promised() {
        let metrics = Metrics::new();
        metrics.streams.set(1);
        metrics.count_auth_failure("expired");
        metrics.count_session("rtmp", "kicked");
        metrics.rtp_packets.received.inc_by(7);
        metrics.join_seconds.observe(0.05);
        metrics.forward_seconds.observe(0.000_3);
        let text = metrics.render();
        for line in [
            "sluice_streams 1",
            "sluice_webrtc_sessions 0",
            "sluice_publishers{protocol=\"whip\"} 0",
            "sluice_publishers{protocol=\"rtmp\"} 0",
            "sluice_viewers{protocol=\"whep\"} 0",
            "sluice_publisher_hand_overs_total{to=\"backup\"} 0",
            "sluice_relays{direction=\"push\"} 0",
            "sluice_relay_connections_total{direction=\"push\",outcome=\"failed\"} 0",
            "sluice_relay_bytes_total{direction=\"out\"} 0",
            "sluice_rtp_packets_total{direction=\"in\"} 7",
            "sluice_rtp_packets_total{direction=\"out\"} 0",
            "sluice_rtp_bytes_total{direction=\"in\"} 0",
            "sluice_rtp_bytes_total{direction=\"out\"} 0",
            "sluice_rtmp_bytes_total{direction=\"in\"} 0",
            "sluice_rtmp_bytes_total{direction=\"out\"} 0",
            "sluice_nack_total{direction=\"in\"} 0",
            "sluice_nack_total{direction=\"out\"} 0",
            "sluice_rtx_packets_total 0",
            "sluice_pli_total{direction=\"in\"} 0",
            "sluice_pli_total{direction=\"out\"} 0",
            "sluice_join_seconds_count 1",
            "sluice_join_seconds_sum 0.05",
            "sluice_join_seconds_bucket{le=\"+Inf\"} 1",
            "sluice_forward_seconds_count 1",
            "sluice_forward_seconds_bucket{le=\"+Inf\"} 1",
            "sluice_auth_failures_total{reason=\"expired\"} 1",
            "sluice_sessions_total{protocol=\"rtmp\",outcome=\"kicked\"} 1",
            "sluice_sessions_total{protocol=\"whep\",outcome=\"ended\"} 0",
            "sluice_undecodable_tracks_total{codec=\"AV1\"} 0",
            "sluice_hls_output_requests_total{operation=\"put\",outcome=\"failed\"} 0",
            "sluice_hls_output_bytes_total 0",
            "sluice_reencoded_streams 0",
            "sluice_reencoded_pictures_total 0",
            "sluice_reencode_seconds_count 0",
            "sluice_reencoder_failures_total 0",
            "sluice_reencoder_cpu_seconds_total 0.0",
            "# EOF",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in:\n{text}");
        }
    }
}
