//! An offer's text into a [`MediaOffer`].

use super::{
    ExtensionIds, Feedback, Fingerprint, IceCandidate, MalformedSdp, OfferError, SDP_LINES_MAX, SECTIONS_MAX, Setup,
    attribute,
};
use crate::{
    codec::MediaKind,
    http::BODY_MAX_BYTES,
    ice::{CANDIDATES_MAX, IceCredentials},
};

/// Payload types in one section: there are no more (RFC 3550 section 5.1).
pub(super) const FORMATS_MAX: usize = 128;
/// SSRCs kept of one section: three simulcast layers with their retransmissions, several times over.
const SSRCS_MAX: usize = 32;
/// `a=rid` lines kept of one section, and layers of its `a=simulcast`: with alternatives there are more than are ever sent.
const RIDS_MAX: usize = 16;
/// The longest list of a rid's restrictions that is kept, in bytes; the eight that RFC 8851 has fit several times over.
pub(super) const RESTRICTIONS_MAX_BYTES: usize = 512;
/// Letters in a mid or rid; both travel in RTP header extensions, where 16 is the most a one-byte header can carry.
pub(super) const NAME_MAX_BYTES: usize = 64;
/// Fingerprints kept: one per certificate and hash function.
const FINGERPRINTS_MAX: usize = 8;

/// What an offer (or an answer) says, as far as it matters here. Transport is that of the section all are bundled on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaOffer {
    pub ice: IceCredentials,
    /// `a=ice-lite`: the other side sends no checks (RFC 8445 section 2.5).
    pub ice_lite: bool,
    /// Never empty; the peer's certificate must match one of them.
    pub fingerprints: Vec<Fingerprint>,
    pub setup: Setup,
    pub candidates: Vec<IceCandidate>,
    /// The mids of the BUNDLE group (RFC 9143), in its order; empty without one.
    pub bundle: Vec<String>,
    pub sections: Vec<MediaSection>,
}

/// `a=sendonly` and its like, as the describing side means it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MediaFlow {
    #[default]
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

/// One `m=` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSection {
    /// `audio`, `video`, `application`, as written.
    pub media: String,
    /// `None` for what is neither audio nor video.
    pub kind: Option<MediaKind>,
    /// Empty when the section has none.
    pub mid: String,
    /// `UDP/TLS/RTP/SAVPF` and its like, as written.
    pub protocol: String,
    /// Port 0 without `a=bundle-only`: the section is declined.
    pub rejected: bool,
    pub flow: MediaFlow,
    /// The format list of the `m=` line, as written.
    pub formats: Vec<String>,
    /// Formats with an `a=rtpmap`, in the order of the `m=` line; RTX and the like too.
    pub codecs: Vec<OfferedCodec>,
    pub extensions: ExtensionIds,
    pub rtcp_mux: bool,
    pub rtcp_rsize: bool,
    /// `a=ssrc`, primaries before their retransmissions.
    pub ssrcs: Vec<u32>,
    /// Layers it wants to send (RFC 8853), in the order of `a=simulcast`; of alternatives, the one it likes best.
    pub send_layers: Vec<OfferedLayer>,
}

/// A layer that a section offers to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedLayer {
    pub rid: String,
    /// `pt=` of its `a=rid` line: the payload types it comes in; empty for any of the section's (RFC 8851 section 4).
    pub payload_types: Vec<u8>,
    /// The line's other restrictions, as written: `max-width=1280;max-fps=30`. Empty for none.
    pub restrictions: String,
}

/// A payload type and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedCodec {
    pub payload_type: u8,
    /// The encoding name, as written.
    pub name: String,
    pub clock_rate_hz: u32,
    pub channels: u8,
    /// As written; empty for none.
    pub fmtp: String,
    pub feedback: Feedback,
    /// The payload type of its retransmissions (RFC 4588 section 8.1).
    pub rtx_payload_type: Option<u8>,
}

impl MediaOffer {
    /// Reads a description. Attributes may stand at session or media level (OBS has ICE, fingerprint and setup at session level);
    /// unknown lines are passed over.
    ///
    /// # Errors
    /// [`OfferError::Malformed`] (400) naming the line, [`OfferError::Impossible`] (422) when ICE or a fingerprint is missing.
    pub fn parse(text: &str) -> Result<Self, OfferError> {
        if text.len() > BODY_MAX_BYTES {
            return Err(MalformedSdp::new(0, format!("it has more than {BODY_MAX_BYTES} bytes")).into());
        }
        let mut reader = Reader::default();
        for (index, line) in text.lines().enumerate() {
            if index >= SDP_LINES_MAX {
                return Err(MalformedSdp::new(index + 1, format!("there are more than {SDP_LINES_MAX} lines")).into());
            }
            reader.line(index, line.trim_end()).map_err(|reason| MalformedSdp::new(index + 1, reason))?;
        }
        reader.finish()
    }

    /// Sections of audio or video, in order; what [`Negotiated`](super::Negotiated) has one entry each for.
    pub fn media(&self) -> impl Iterator<Item = (MediaKind, &MediaSection)> {
        self.sections.iter().filter_map(|section| Some((section.kind?, section)))
    }

    /// The first section of this kind that is not declined, as its place among all `m=` lines, from 0.
    pub fn line_of(&self, kind: MediaKind) -> Option<usize> {
        self.sections.iter().position(|section| section.kind == Some(kind) && !section.rejected)
    }
}

/// Transport attributes, which may stand at either level.
#[derive(Default)]
struct TransportLines {
    ufrag: Option<String>,
    pwd: Option<String>,
    fingerprints: Vec<Fingerprint>,
    setup: Option<Setup>,
    candidates: Vec<IceCandidate>,
}

/// One section under construction.
struct SectionLines {
    section: MediaSection,
    transport: TransportLines,
    bundle_only: bool,
    port: u16,
    flow: Option<MediaFlow>,
    formats: Vec<FormatLines>,
    /// `a=rtcp-fb:*`: for all formats.
    feedback_for_all: Feedback,
    rid_lines: Vec<OfferedLayer>,
    /// The layers of `a=simulcast`, each with its alternatives.
    simulcast: Vec<Vec<String>>,
    /// Second SSRCs of `a=ssrc-group:FID`.
    rtx_ssrcs: Vec<u32>,
}

/// What is said of one payload type; found by its number, for lines come in any order.
struct FormatLines {
    payload_type: u8,
    map: Option<(String, u32, u8)>,
    fmtp: String,
    feedback: Feedback,
}

#[derive(Default)]
struct Reader {
    transport: TransportLines,
    flow: MediaFlow,
    ice_lite: bool,
    bundle: Option<Vec<String>>,
    sections: Vec<SectionLines>,
}

impl Reader {
    fn line(&mut self, index: usize, line: &str) -> Result<(), String> {
        if line.is_empty() && index > 0 {
            return Ok(());
        }
        if line.chars().any(char::is_control) {
            return Err("there is a control character".into());
        }
        let Some((kind, value)) = line.split_once('=').filter(|(kind, _)| kind.len() == 1) else {
            return Err("a line is <letter>=<value>".into());
        };
        if index == 0 && line != "v=0" {
            return Err("a description begins with \"v=0\"".into());
        }
        match kind {
            "m" => self.media(value),
            "a" => {
                let (name, value) = value.split_once(':').unwrap_or((value, ""));
                self.attribute(name, value)
            }
            _ => Ok(()),
        }
    }

    fn media(&mut self, value: &str) -> Result<(), String> {
        if self.sections.len() >= SECTIONS_MAX {
            return Err(format!("there are more than {SECTIONS_MAX} media sections"));
        }
        let mut words = value.split_ascii_whitespace();
        let (Some(media), Some(port), Some(protocol)) = (words.next(), words.next(), words.next()) else {
            return Err("m= has a medium, a port, a protocol and formats".into());
        };
        let port = port.split('/').next().and_then(|port| port.parse().ok());
        let port = port.ok_or("m= has a port below 65536")?;
        let formats: Vec<String> = words.take(FORMATS_MAX).map(str::to_owned).collect();
        if formats.is_empty() {
            return Err("m= has at least one format".into());
        }
        let kind = [MediaKind::Audio, MediaKind::Video].into_iter().find(|kind| kind.as_str() == media);
        let mut lines = SectionLines {
            section: MediaSection {
                media: media.to_owned(),
                kind,
                mid: String::new(),
                protocol: protocol.to_owned(),
                rejected: false,
                flow: MediaFlow::default(),
                formats,
                codecs: Vec::new(),
                extensions: ExtensionIds::default(),
                rtcp_mux: false,
                rtcp_rsize: false,
                ssrcs: Vec::new(),
                send_layers: Vec::new(),
            },
            transport: TransportLines::default(),
            bundle_only: false,
            port,
            flow: None,
            formats: Vec::new(),
            feedback_for_all: Feedback::default(),
            rid_lines: Vec::new(),
            simulcast: Vec::new(),
            rtx_ssrcs: Vec::new(),
        };
        if kind.is_some() {
            for format in &lines.section.formats {
                let (payload_type, _) = attribute::payload_type(format)?;
                if lines.formats.iter().any(|known| known.payload_type == payload_type) {
                    return Err(format!("payload type {payload_type} is listed twice"));
                }
                let (fmtp, feedback) = (String::new(), Feedback::default());
                lines.formats.push(FormatLines { payload_type, map: None, fmtp, feedback });
            }
        }
        self.sections.push(lines);
        Ok(())
    }

    fn attribute(&mut self, name: &str, value: &str) -> Result<(), String> {
        let section = self.sections.last_mut();
        let transport = section.map_or(&mut self.transport, |section| &mut section.transport);
        if transport.attribute(name, value)? {
            return Ok(());
        }
        let flow = match name {
            "sendrecv" => Some(MediaFlow::SendRecv),
            "sendonly" => Some(MediaFlow::SendOnly),
            "recvonly" => Some(MediaFlow::RecvOnly),
            "inactive" => Some(MediaFlow::Inactive),
            _ => None,
        };
        match (self.sections.last_mut(), flow) {
            (Some(section), Some(flow)) => section.flow = Some(flow),
            (None, Some(flow)) => self.flow = flow,
            (Some(section), None) => section.attribute(name, value)?,
            (None, None) => match name {
                "ice-lite" => self.ice_lite = true,
                "group" if self.bundle.is_none() => {
                    let mut words = value.split_ascii_whitespace();
                    if words.next() == Some("BUNDLE") {
                        self.bundle = Some(words.take(SECTIONS_MAX).map(str::to_owned).collect());
                    }
                }
                _ => {}
            },
        }
        Ok(())
    }

    fn finish(mut self) -> Result<MediaOffer, OfferError> {
        let mut bundle = self.bundle.take().unwrap_or_default();
        let mids: Vec<String> = self.sections.iter().map(|lines| lines.section.mid.clone()).collect();
        for (index, mid) in mids.iter().enumerate() {
            if !mid.is_empty() && mids.iter().take(index).any(|earlier| earlier == mid) {
                return Err(MalformedSdp::new(0, format!("two media sections have the mid {mid:?}")).into());
            }
        }
        // ffmpeg 8.0 groups "0 1" also when it has one medium only.
        bundle.retain(|mid| mids.contains(mid));
        // The offerer-tagged section carries the transport of all (RFC 9143 section 7.2.1); the others may repeat it.
        let live = |lines: &SectionLines| lines.port != 0 || lines.bundle_only;
        let tagged = bundle
            .iter()
            .filter_map(|mid| mids.iter().position(|other| other == mid))
            .chain(0..self.sections.len())
            .find(|&index| self.sections.get(index).is_some_and(live))
            // All declined: what is wrong then is said by whoever wants media.
            .or(Some(0));
        let mut transport = std::mem::take(&mut self.transport);
        if let Some(lines) = tagged.and_then(|index| self.sections.get_mut(index)) {
            transport = std::mem::take(&mut lines.transport).or(transport);
        }
        let missing =
            |what: &str| OfferError::Impossible(format!("there is no a={what}: WebRTC needs ICE and DTLS-SRTP"));
        let ice = IceCredentials {
            ufrag: transport.ufrag.ok_or_else(|| missing("ice-ufrag"))?,
            pwd: transport.pwd.ok_or_else(|| missing("ice-pwd"))?,
        };
        if !ice.is_sound() {
            let reason = "ice-ufrag has 4 to 256 letters, ice-pwd 22 to 256, and both are plain text";
            return Err(MalformedSdp::new(0, reason).into());
        }
        if transport.fingerprints.is_empty() {
            return Err(missing("fingerprint of sha-256, sha-384 or sha-512"));
        }
        Ok(MediaOffer {
            ice,
            ice_lite: self.ice_lite,
            fingerprints: transport.fingerprints,
            // RFC 4145 section 4.1: an offer that says nothing is active.
            setup: transport.setup.unwrap_or(Setup::Active),
            candidates: transport.candidates,
            bundle,
            sections: self.sections.into_iter().map(|lines| lines.finish(self.flow)).collect(),
        })
    }
}

impl TransportLines {
    /// Takes the attribute if it is one of transport.
    fn attribute(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "ice-ufrag" => self.ufrag = Some(value.to_owned()),
            "ice-pwd" => self.pwd = Some(value.to_owned()),
            "setup" => self.setup = Some(attribute::setup(value)?),
            "fingerprint" => {
                let fingerprint = attribute::fingerprint(value)?;
                if self.fingerprints.len() < FINGERPRINTS_MAX {
                    self.fingerprints.extend(fingerprint);
                }
            }
            "candidate" => {
                let candidate = attribute::candidate(value)?;
                if self.candidates.len() < CANDIDATES_MAX {
                    self.candidates.extend(candidate);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What is said here, else what the session level says.
    fn or(self, session: Self) -> Self {
        // A user name and a password belong together.
        let own_ice = self.ufrag.is_some() || self.pwd.is_some();
        let (ufrag, pwd) = if own_ice { (self.ufrag, self.pwd) } else { (session.ufrag, session.pwd) };
        Self {
            ufrag,
            pwd,
            fingerprints: if self.fingerprints.is_empty() { session.fingerprints } else { self.fingerprints },
            setup: self.setup.or(session.setup),
            candidates: if self.candidates.is_empty() { session.candidates } else { self.candidates },
        }
    }
}

impl SectionLines {
    fn attribute(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "mid" => {
                if value.is_empty() || value.len() > NAME_MAX_BYTES || !value.bytes().all(|b| b.is_ascii_graphic()) {
                    return Err(format!("a mid has 1 to {NAME_MAX_BYTES} plain letters"));
                }
                self.section.mid = value.to_owned();
            }
            "bundle-only" => self.bundle_only = true,
            "rtcp-mux" => self.section.rtcp_mux = true,
            "rtcp-rsize" => self.section.rtcp_rsize = true,
            "rtpmap" if self.section.kind.is_some() => {
                let (payload_type, rest) = attribute::payload_type(value)?;
                let (name, clock_rate_hz, channels) = attribute::rtpmap(rest)?;
                if let Some(format) = self.format(payload_type) {
                    format.map = Some((name.to_owned(), clock_rate_hz, channels));
                }
            }
            "fmtp" if self.section.kind.is_some() => {
                let (payload_type, rest) = attribute::payload_type(value)?;
                if let Some(format) = self.format(payload_type) {
                    format.fmtp = rest.to_owned();
                }
            }
            "rtcp-fb" if self.section.kind.is_some() => match value.split_once(' ') {
                Some(("*", rest)) => attribute::feedback(rest, &mut self.feedback_for_all),
                _ => {
                    let (payload_type, rest) = attribute::payload_type(value)?;
                    if let Some(format) = self.format(payload_type) {
                        attribute::feedback(rest, &mut format.feedback);
                    }
                }
            },
            "extmap" => attribute::extension(value, &mut self.section.extensions)?,
            "ssrc" => {
                let number = value.split(' ').next().and_then(|number| number.parse::<u32>().ok());
                let ssrc = number.ok_or("an SSRC is a number below 2^32")?;
                if self.section.ssrcs.len() < SSRCS_MAX && !self.section.ssrcs.contains(&ssrc) {
                    self.section.ssrcs.push(ssrc);
                }
            }
            "ssrc-group" => {
                let mut words = value.split_ascii_whitespace();
                if words.next() == Some("FID") && self.rtx_ssrcs.len() < SSRCS_MAX {
                    self.rtx_ssrcs.extend(words.nth(1).and_then(|ssrc| ssrc.parse::<u32>().ok()));
                }
            }
            "rid" => {
                if let Some(layer) = attribute::rid_send(value)?
                    && self.rid_lines.len() < RIDS_MAX
                    && self.rid_lines.iter().all(|known| known.rid != layer.rid)
                {
                    self.rid_lines.push(layer);
                }
            }
            "simulcast" => {
                let layers = attribute::simulcast_send(value).take(RIDS_MAX);
                self.simulcast =
                    layers.map(|layer| layer.take(RIDS_MAX).map(str::to_owned).collect::<Vec<_>>()).collect();
            }
            _ => {}
        }
        Ok(())
    }

    /// Attributes of payload types that the `m=` line has not got are passed over.
    fn format(&mut self, payload_type: u8) -> Option<&mut FormatLines> {
        self.formats.iter_mut().find(|format| format.payload_type == payload_type)
    }

    fn finish(self, session_flow: MediaFlow) -> MediaSection {
        let mut section = self.section;
        section.rejected = self.port == 0 && !self.bundle_only;
        section.flow = self.flow.unwrap_or(session_flow);
        // Stable: primaries keep their order, and come first.
        section.ssrcs.sort_by_key(|ssrc| self.rtx_ssrcs.contains(ssrc));
        for alternatives in &self.simulcast {
            let described = |rid: &String| self.rid_lines.iter().find(|layer| layer.rid == *rid);
            let new = |layer: &&OfferedLayer| section.send_layers.iter().all(|known| known.rid != layer.rid);
            section.send_layers.extend(alternatives.iter().filter_map(described).find(new).cloned());
        }
        let rtx: Vec<(u8, u8)> = self.formats.iter().filter_map(FormatLines::retransmits).collect();
        let all = self.feedback_for_all;
        section.codecs = self
            .formats
            .into_iter()
            .filter_map(|format| {
                let (name, clock_rate_hz, channels) = format.map?;
                let own = format.feedback;
                Some(OfferedCodec {
                    payload_type: format.payload_type,
                    name,
                    clock_rate_hz,
                    channels,
                    fmtp: format.fmtp,
                    feedback: Feedback {
                        nack: own.nack || all.nack,
                        pli: own.pli || all.pli,
                        fir: own.fir || all.fir,
                        transport_cc: own.transport_cc || all.transport_cc,
                        remb: own.remb || all.remb,
                    },
                    rtx_payload_type: rtx.iter().find(|(_, of)| *of == format.payload_type).map(|(by, _)| *by),
                })
            })
            .collect();
        section
    }
}

impl FormatLines {
    /// For RTX: itself, and what it retransmits.
    fn retransmits(&self) -> Option<(u8, u8)> {
        let (name, ..) = self.map.as_ref()?;
        let of = attribute::parameter(&self.fmtp, "apt").filter(|_| name.eq_ignore_ascii_case("rtx"))?;
        Some((self.payload_type, of.parse().ok()?))
    }
}
