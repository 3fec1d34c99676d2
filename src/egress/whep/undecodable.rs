//! What a viewer cannot decode of a stream, in words: its answer was made for an earlier publisher's codecs.

use std::fmt;

use sluice_signaling::sdp::NegotiatedMedia;

use crate::media::{Codec, TrackFormat};

/// A live track that the viewer's answer has no payload type for. Its `Display` says what it carries and what the viewer
/// decodes instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    pub format: TrackFormat,
    /// Codecs of this kind in the viewer's answer, best first, each once; of the live codec itself, with its parameters.
    pub decodes: Vec<String>,
}

impl Undecodable {
    pub fn new(format: &TrackFormat, section: &NegotiatedMedia) -> Self {
        let mut decodes = Vec::new();
        for accepted in &section.codecs {
            // The same codec with other parameters is another decoder.
            let told = accepted.codec == format.codec;
            let name = named(accepted.codec, if told { &accepted.fmtp } else { "" });
            if !decodes.contains(&name) {
                decodes.push(name);
            }
        }
        Self { format: format.clone(), decodes }
    }
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, decodes } = self;
        write!(f, "{} is sent, {} can be decoded", named(format.codec, &format.fmtp), decodes.join(", "))
    }
}

fn named(codec: Codec, fmtp: &str) -> String {
    if fmtp.is_empty() { codec.to_string() } else { format!("{codec} ({fmtp})") }
}
