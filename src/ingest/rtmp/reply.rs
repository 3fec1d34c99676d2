//! What the server says: control messages, results and statuses, as chunks (RTMP 1.0 sections 5.4 and 7.2).

use std::collections::HashMap;

use rml_rtmp::{
    chunk_io::ChunkSerializer,
    messages::{MessagePayload, PeerBandwidthLimitType, RtmpMessage, UserControlEventType},
    rml_amf0::Amf0Value,
    time::RtmpTimestamp,
};

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

/// Collects the bytes to be sent.
pub struct Replies {
    serializer: ChunkSerializer,
    out: Vec<u8>,
}

impl Default for Replies {
    fn default() -> Self {
        Self { serializer: ChunkSerializer::new(), out: Vec::new() }
    }
}

impl Replies {
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// What comes before the answer to `connect`.
    pub fn welcome(&mut self) {
        self.message(RtmpMessage::WindowAcknowledgement { size: WINDOW_BYTES }, 0);
        let limit_type = PeerBandwidthLimitType::Dynamic;
        self.message(RtmpMessage::SetPeerBandwidth { size: WINDOW_BYTES, limit_type }, 0);
        // Cannot fail: the size is in range, and the message short.
        if let Ok(packet) = self.serializer.set_max_chunk_size(CHUNK_BYTES, RtmpTimestamp::new(0)) {
            self.out.extend_from_slice(&packet.bytes);
        }
    }

    pub fn acknowledge(&mut self, sequence_number: u32) {
        self.message(RtmpMessage::Acknowledgement { sequence_number }, 0);
    }

    pub fn stream_begins(&mut self, stream_id: u32) {
        self.user_control(UserControlEventType::StreamBegin, Some(stream_id), None);
    }

    pub fn pong(&mut self, timestamp_ms: u32) {
        self.user_control(UserControlEventType::PingResponse, None, Some(RtmpTimestamp::new(timestamp_ms)));
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

    pub fn command(
        &mut self,
        name: &str,
        transaction_id: f64,
        command_object: Amf0Value,
        additional_arguments: Vec<Amf0Value>,
        stream_id: u32,
    ) {
        let command_name = name.to_owned();
        self.message(
            RtmpMessage::Amf0Command { command_name, transaction_id, command_object, additional_arguments },
            stream_id,
        );
    }

    fn user_control(
        &mut self,
        event_type: UserControlEventType,
        stream_id: Option<u32>,
        timestamp: Option<RtmpTimestamp>,
    ) {
        self.message(RtmpMessage::UserControl { event_type, stream_id, buffer_length: None, timestamp }, 0);
    }

    fn message(&mut self, message: RtmpMessage, stream_id: u32) {
        // Writing fails on messages over 16 MB and on strings over 64 KB only; ours are neither.
        let packet = MessagePayload::from_rtmp_message(message, RtmpTimestamp::new(0), stream_id)
            .ok()
            .and_then(|payload| self.serializer.serialize(&payload, true, false).ok());
        if let Some(packet) = packet {
            self.out.extend_from_slice(&packet.bytes);
        }
    }
}

/// An information object as statuses and results carry it.
pub fn information(level: Level, code: &str, description: &str) -> HashMap<String, Amf0Value> {
    [("level", level.as_str()), ("code", code), ("description", description)]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), Amf0Value::Utf8String(text.to_owned())))
        .collect()
}
