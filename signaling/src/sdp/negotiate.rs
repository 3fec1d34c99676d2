//! What both sides agree on: codecs with the offer's payload types, feedback, extensions (RFC 3264, RFC 9429 section 5.3.1).
//!
//! Never a half-accepted session (RFC 9725 section 4.4.3): an offer that cannot be carried whole is refused with the reason.

use super::{
    AcceptedCodec, ExtensionIds, Feedback, LAYERS_MAX, MediaFlow, MediaOffer, MediaSection, Negotiated,
    NegotiatedMedia, OfferedCodec, OfferedLayer,
    formats::{answered, codec_of, fit},
};
use crate::{
    codec::{Codec, MediaKind, TrackFormat},
    error::Problem,
    media_plane::Direction,
};

/// What an element of a header extension carries at the most (RFC 8285 section 4.2): a longer mid cannot be said in packets.
const ELEMENT_BYTES_MAX: usize = 16;
/// Protocols of an `m=` line that mean DTLS-SRTP (RFC 5764 section 8, RFC 9429 section 5.1.2).
const PROTOCOLS: [&str; 5] = ["UDP/TLS/RTP/SAVPF", "TCP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF", "RTP/SAVP"];

/// What a publisher's offer comes to: every codec in common, in the offer's order; but first those that the stream's
/// viewers can all decode (`viewers`; `None` when there are none), for a publisher sends the first.
///
/// Of a simulcast offer (RFC 8853) all layers are received, up to [`LAYERS_MAX`]: those it names first, which it prefers, and that come
/// in a codec agreed on. Without the extension that tells a packet's layer (RFC 8852) there is nothing to tell them by, and none is.
///
/// # Errors
/// 422, with what to change.
pub fn negotiate_ingest(offer: &MediaOffer, viewers: Option<&[Codec]>) -> Result<Negotiated, Problem> {
    check(offer, Direction::Ingest)?;
    let media = offer.media().map(|(kind, section)| {
        if section.rejected {
            return Ok(declined(kind, section));
        }
        let mut codecs = codecs(section, Direction::Ingest);
        if let Some(viewers) = viewers {
            codecs.sort_by_key(|accepted| !viewers.contains(&accepted.codec));
        }
        if codecs.is_empty() {
            return Err(nothing_in_common(kind, section, 422));
        }
        let usable = |layer: &&OfferedLayer| {
            let agreed = |payload_type: &u8| codecs.iter().any(|codec| codec.payload_type == *payload_type);
            layer.payload_types.is_empty() || layer.payload_types.iter().any(agreed)
        };
        let layers = section.send_layers.iter().filter(|_| section.extensions.rid.is_some()).filter(usable);
        let rids = layers.take(LAYERS_MAX).map(|layer| layer.rid.clone()).collect();
        let own = section.extensions;
        Ok(NegotiatedMedia {
            extensions: ExtensionIds { playout_delay: None, ..own },
            remote_ssrcs: section.ssrcs.clone(),
            rids,
            codecs,
            ..declined(kind, section)
        })
    });
    Ok(Negotiated { media: media.collect::<Result<_, _>>()? })
}

/// What an answer comes to that another server gave to an offer of ours to receive: what it may send, by the offer's payload types. Sections that it
/// declines, or sends nothing in, have no codecs. Never simulcast: nobody offers to receive it.
pub fn negotiate_answer(answer: &MediaOffer) -> Negotiated {
    let media = answer.media().map(|(kind, section)| {
        if section.rejected || !matches!(section.flow, MediaFlow::SendOnly | MediaFlow::SendRecv) {
            return declined(kind, section);
        }
        NegotiatedMedia {
            extensions: ExtensionIds { playout_delay: None, ..section.extensions },
            remote_ssrcs: section.ssrcs.clone(),
            codecs: codecs(section, Direction::Ingest),
            ..declined(kind, section)
        }
    });
    Negotiated { media: media.collect() }
}

/// What a viewer's offer comes to. Codecs of the live stream come first, then all others in common: the next publisher may
/// bring one of them. A section of a kind that is not live is accepted too, and stays silent until it is.
///
/// # Errors
/// 422 for an offer that no stream could be sent to, 406 when it lacks a codec of this one.
pub fn negotiate_egress(offer: &MediaOffer, live: &[TrackFormat]) -> Result<Negotiated, Problem> {
    check(offer, Direction::Egress)?;
    let mut carried = 0;
    let media = offer.media().map(|(kind, section)| {
        if section.rejected {
            return Ok(declined(kind, section));
        }
        let mut codecs = codecs(section, Direction::Egress);
        if let Some(format) = live.iter().find(|format| format.codec.kind() == kind) {
            codecs.sort_by_key(|codec| fit(format, codec.codec, &codec.fmtp).unwrap_or(u32::MAX));
            if codecs.first().is_none_or(|codec| fit(format, codec.codec, &codec.fmtp).is_none()) {
                return Err(cannot_carry(format, section));
            }
            carried += 1;
        }
        let ExtensionIds { mid, abs_send_time, playout_delay, abs_capture_time, .. } = section.extensions;
        let mid = mid.filter(|_| section.mid.len() <= ELEMENT_BYTES_MAX);
        let abs_send_time = abs_send_time.filter(|_| codecs.iter().any(|codec| codec.feedback.remb));
        let extensions =
            ExtensionIds { mid, abs_send_time, playout_delay, abs_capture_time, ..ExtensionIds::default() };
        Ok(NegotiatedMedia { extensions, codecs, ..declined(kind, section) })
    });
    let media: Vec<NegotiatedMedia> = media.collect::<Result<_, Problem>>()?;
    if !media.iter().any(NegotiatedMedia::is_accepted) {
        let detail = "none of the offered codecs is one of H264, H265, VP8, VP9, AV1 and opus";
        return Err(unusable(detail));
    }
    if let (0, Some(format)) = (carried, live.first()) {
        let detail =
            format!("the stream is {} only, and the offer has no section for it", format.codec.kind().as_str());
        return Err(Problem::new(406, NO_COMMON_CODEC.0, NO_COMMON_CODEC.1, detail));
    }
    Ok(Negotiated { media })
}

/// The rules that hold for every offer, whatever its codecs (RFC 9725 sections 4.2 and 4.4, and the same of WHEP).
fn check(offer: &MediaOffer, direction: Direction) -> Result<(), Problem> {
    let sections: Vec<(MediaKind, &MediaSection)> = offer.media().filter(|(_, section)| !section.rejected).collect();
    if sections.is_empty() {
        return Err(unusable("the offer has no audio and no video"));
    }
    for kind in [MediaKind::Audio, MediaKind::Video] {
        if sections.iter().filter(|(other, _)| *other == kind).count() > 1 {
            let kind = kind.as_str();
            return Err(unusable(format!(
                "the offer has more than one {kind} section: a stream has one of each at most"
            )));
        }
    }
    let bundled = |section: &MediaSection| !section.mid.is_empty() && offer.bundle.contains(&section.mid);
    if sections.len() > 1 && !sections.iter().all(|(_, section)| bundled(section)) {
        return Err(unusable(
            "all media go over one transport: offer them in one BUNDLE group (bundlePolicy \"max-bundle\")",
        ));
    }
    if offer.ice_lite {
        return Err(unusable("the offer is ICE-lite, and so is this server: one side must send checks"));
    }
    if !sections.iter().any(|(_, section)| section.rtcp_mux) {
        return Err(unusable("RTP and RTCP share one transport: offer a=rtcp-mux"));
    }
    for (kind, section) in sections {
        let kind = kind.as_str();
        if !PROTOCOLS.contains(&section.protocol.as_str()) {
            let protocol = &section.protocol;
            return Err(unusable(format!("{kind} is offered over {protocol:?}; offer UDP/TLS/RTP/SAVPF")));
        }
        let (good, wanted) = match direction {
            Direction::Ingest => (MediaFlow::SendOnly, "sendonly"),
            Direction::Egress => (MediaFlow::RecvOnly, "recvonly"),
        };
        if section.flow != good && section.flow != MediaFlow::SendRecv {
            return Err(unusable(format!("{kind} flows the wrong way: offer it {wanted}")));
        }
    }
    Ok(())
}

/// The section's codecs that we have, in its order.
fn codecs(section: &MediaSection, direction: Direction) -> Vec<AcceptedCodec> {
    section
        .codecs
        .iter()
        .filter_map(|offered| {
            let codec = codec_of(offered)?;
            let usable = Some(codec.kind()) == section.kind
                // RTCP packet types in disguise (RFC 5761 section 4).
                && !(64..96).contains(&offered.payload_type);
            usable.then(|| AcceptedCodec {
                codec,
                payload_type: offered.payload_type,
                fmtp: answered(codec, offered),
                channels: if codec == Codec::Opus { offered.channels } else { 1 },
                rtx_payload_type: offered.rtx_payload_type,
                feedback: Feedback {
                    // A publisher works out itself what it may send. Of a viewer's path its own side tells us: that takes a message
                    // a second, where transport-wide feedback takes twenty.
                    transport_cc: offered.feedback.transport_cc && direction == Direction::Ingest,
                    remb: direction == Direction::Egress && says_send_time(section, offered),
                    ..offered.feedback
                },
            })
        })
        .collect()
}

/// Whether packets of a codec say when they were sent, for the viewer's estimate. One that is sent again says another time, which only a
/// stream of its own may: sealed under its own number it would have to be the same bytes (RFC 7714 section 8.1).
fn says_send_time(section: &MediaSection, offered: &OfferedCodec) -> bool {
    offered.feedback.remb && offered.rtx_payload_type.is_some() && section.extensions.abs_send_time.is_some()
}

/// A section with nothing agreed, to build upon.
fn declined(kind: MediaKind, section: &MediaSection) -> NegotiatedMedia {
    NegotiatedMedia {
        mid: section.mid.clone(),
        kind,
        codecs: Vec::new(),
        extensions: ExtensionIds::default(),
        remote_ssrcs: Vec::new(),
        rids: Vec::new(),
    }
}

const NO_COMMON_CODEC: (&str, &str) = ("no-common-codec", "No codec in common");

fn unusable(detail: impl Into<String>) -> Problem {
    Problem::new(422, "unusable-offer", "The offer cannot become a session", detail)
}

fn nothing_in_common(kind: MediaKind, section: &MediaSection, status: u16) -> Problem {
    let ours = match kind {
        MediaKind::Audio => "opus/48000/2",
        MediaKind::Video => "H264, H265, VP8, VP9 and AV1",
    };
    let detail = format!("{} is offered as {}; this server takes {ours}", kind.as_str(), names(section));
    Problem::new(status, NO_COMMON_CODEC.0, NO_COMMON_CODEC.1, detail)
}

fn cannot_carry(live: &TrackFormat, section: &MediaSection) -> Problem {
    let fmtp = if live.fmtp.is_empty() { String::new() } else { format!(" ({})", live.fmtp) };
    let kind = live.codec.kind().as_str();
    let detail = format!("the stream's {kind} is {}{fmtp}; the client has {}", live.codec, names(section));
    Problem::new(406, NO_COMMON_CODEC.0, NO_COMMON_CODEC.1, detail)
}

/// The offered encoding names, each once, for a message.
fn names(section: &MediaSection) -> String {
    const NAMES_MAX: usize = 16;
    let mut names: Vec<&str> = Vec::new();
    let repairs = |name: &str| ["rtx", "red", "ulpfec"].iter().any(|repair| repair.eq_ignore_ascii_case(name));
    for codec in section.codecs.iter().filter(|codec| !repairs(&codec.name)) {
        if names.len() < NAMES_MAX && !names.contains(&codec.name.as_str()) {
            names.push(&codec.name);
        }
    }
    if names.is_empty() { "nothing that has a name".into() } else { names.join(", ") }
}
