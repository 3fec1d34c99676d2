//! What a viewer cannot decode of a stream, in words: its answer was made for an earlier publisher's codecs, or its offer lacks those of
//! the present one.

use std::fmt;

use sluice_signaling::sdp::NegotiatedMedia;

use crate::{
    media::{Codec, TrackFormat},
    track::Notice,
};

/// A live track that the viewer's answer has no payload type for. Its `Display` says what it carries and what the viewer
/// decodes instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    pub format: TrackFormat,
    /// Codecs of this kind in the viewer's offer or answer, best first, each once; of the live codec itself, with its parameters. Only such
    /// as Sluice knows, in its own words: nothing here is the viewer's text.
    pub decodes: Vec<String>,
}

impl Undecodable {
    /// `section` is what was agreed on, or could be, for this kind; `None` when nothing can be.
    pub fn new(format: &TrackFormat, section: Option<&NegotiatedMedia>) -> Self {
        let mut decodes = Vec::new();
        for accepted in section.into_iter().flat_map(|section| &section.codecs) {
            // The same codec with other parameters is another decoder.
            let told = accepted.codec == format.codec;
            let name = named(accepted.codec, if told { &accepted.fmtp } else { "" });
            if !decodes.contains(&name) {
                decodes.push(name);
            }
        }
        Self { format: format.clone(), decodes }
    }

    /// For the stream's publisher.
    pub fn notice(&self) -> Notice {
        let text = format!("A viewer cannot decode this: {self}. H264 and VP8 play in every browser.");
        Notice { code: "undecodable", text }
    }
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, decodes } = self;
        let decodes = if decodes.is_empty() { "nothing of its kind".into() } else { decodes.join(", ") };
        write!(f, "{} is sent, {decodes} can be decoded", named(format.codec, &format.fmtp))
    }
}

fn named(codec: Codec, fmtp: &str) -> String {
    if fmtp.is_empty() { codec.to_string() } else { format!("{codec} ({fmtp})") }
}
