//! What the server says: control messages, results and statuses, as chunks (RTMP 1.0 sections 5.4 and 7.2).

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
};

use rml_rtmp::{
    messages::{PeerBandwidthLimitType, RtmpMessage, UserControlEventType},
    rml_amf0::Amf0Value,
};

use crate::rtmp::MessageWriter;

/// Size of the chunks sent: what we say is short, so that nearly all of it is one chunk.
const CHUNK_BYTES: u32 = 4_096;
/// How many bytes a peer sends before it wants to hear of them; and what it may have under way.
pub const WINDOW_BYTES: u32 = 2_500_000;

/// Whether a status is good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Status,
    /// Something to change, which ends nothing.
    Warning,
    Error,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Collects what is said.
#[derive(Default)]
pub struct Replies(MessageWriter);

impl Deref for Replies {
    type Target = MessageWriter;

    fn deref(&self) -> &MessageWriter {
        &self.0
    }
}

impl DerefMut for Replies {
    fn deref_mut(&mut self) -> &mut MessageWriter {
        &mut self.0
    }
}

impl Replies {
    /// What comes before the answer to `connect`.
    pub fn welcome(&mut self) {
        self.message(RtmpMessage::WindowAcknowledgement { size: WINDOW_BYTES }, 0);
        let limit_type = PeerBandwidthLimitType::Dynamic;
        self.message(RtmpMessage::SetPeerBandwidth { size: WINDOW_BYTES, limit_type }, 0);
        self.set_chunk_bytes(CHUNK_BYTES);
    }

    pub fn stream_begins(&mut self, stream_id: u32) {
        self.user_control(UserControlEventType::StreamBegin, Some(stream_id), None);
    }

    /// `_result` or `_error` of a call.
    pub fn result(&mut self, level: Level, transaction_id: f64, first: Amf0Value, second: Amf0Value) {
        let name = if level == Level::Error { "_error" } else { "_result" };
        self.command(name, transaction_id, first, vec![second], 0);
    }

    /// `onStatus` on a message stream.
    pub fn status(&mut self, stream_id: u32, level: Level, code: &str, description: &str) {
        let information = information(level, code, description);
        self.command("onStatus", 0.0, Amf0Value::Null, vec![Amf0Value::Object(information)], stream_id);
    }

    /// `onStatus` of the connection (Enhanced RTMP v2, "Reconnect Request"), with the URL to connect to where that is another.
    pub fn reconnect_request(&mut self, code: &str, url: Option<&str>) {
        let mut information = information(Level::Status, code, "The server is stopping.");
        if let Some(url) = url {
            information.insert("tcUrl".into(), Amf0Value::Utf8String(url.to_owned()));
        }
        self.command("onStatus", 0.0, Amf0Value::Null, vec![Amf0Value::Object(information)], 0);
    }
}

/// An information object as statuses and results carry it.
pub fn information(level: Level, code: &str, description: &str) -> HashMap<String, Amf0Value> {
    [("level", level.as_str()), ("code", code), ("description", description)]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), Amf0Value::Utf8String(text.to_owned())))
        .collect()
}
