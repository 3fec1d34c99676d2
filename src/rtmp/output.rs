//! Messages become chunks (RTMP 1.0 section 5.3).

use bytes::Bytes;
use rml_rtmp::{
    chunk_io::ChunkSerializer,
    messages::{MessagePayload, RtmpMessage, UserControlEventType},
    rml_amf0::Amf0Value,
    time::RtmpTimestamp,
};

/// Collects the bytes to be sent.
pub struct MessageWriter {
    serializer: ChunkSerializer,
    out: Vec<u8>,
}

impl Default for MessageWriter {
    fn default() -> Self {
        Self { serializer: ChunkSerializer::new(), out: Vec::new() }
    }
}

impl MessageWriter {
    /// Bytes that are no message: of the handshake.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Of what [`Self::take`] will give.
    pub fn waiting_bytes(&self) -> usize {
        self.out.len()
    }

    /// From here on chunks have so many bytes, at most 2^31 - 1, and the peer is told.
    pub fn set_chunk_bytes(&mut self, bytes: u32) {
        // Cannot fail: the size is in range, and the message short.
        if let Ok(packet) = self.serializer.set_max_chunk_size(bytes, RtmpTimestamp::new(0)) {
            self.out.extend_from_slice(&packet.bytes);
        }
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

    pub fn acknowledge(&mut self, sequence_number: u32) {
        self.message(RtmpMessage::Acknowledgement { sequence_number }, 0);
    }

    pub fn pong(&mut self, timestamp_ms: u32) {
        self.user_control(UserControlEventType::PingResponse, None, Some(RtmpTimestamp::new(timestamp_ms)));
    }

    pub fn user_control(
        &mut self,
        event_type: UserControlEventType,
        stream_id: Option<u32>,
        timestamp: Option<RtmpTimestamp>,
    ) {
        self.user_control_with(event_type, stream_id, None, timestamp);
    }

    pub fn user_control_with(
        &mut self,
        event_type: UserControlEventType,
        stream_id: Option<u32>,
        buffer_length: Option<u32>,
        timestamp: Option<RtmpTimestamp>,
    ) {
        self.message(RtmpMessage::UserControl { event_type, stream_id, buffer_length, timestamp }, 0);
    }

    pub fn message(&mut self, message: RtmpMessage, stream_id: u32) {
        if let Ok(payload) = MessagePayload::from_rtmp_message(message, RtmpTimestamp::new(0), stream_id) {
            self.payload(&payload);
        }
    }

    /// Pictures or sound: `kind` as [`super::kind`] has it.
    pub fn media(&mut self, kind: u8, timestamp_ms: u32, stream_id: u32, data: Bytes) {
        let timestamp = RtmpTimestamp::new(timestamp_ms);
        self.payload(&MessagePayload { timestamp, type_id: kind, message_stream_id: stream_id, data });
    }

    /// Writing fails on messages over 16 MB and on strings over 64 KB only; ours are neither.
    fn payload(&mut self, payload: &MessagePayload) {
        if let Ok(packet) = self.serializer.serialize(payload, true, false) {
            self.out.extend_from_slice(&packet.bytes);
        }
    }
}
