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
        // Each message begins with a whole header, which some readers need. That is what `rml_rtmp` does behind one that may be dropped; asked for
        // whole headers it writes them within messages, too, where none may be (section 5.3.1.2.4).
        if let Ok(packet) = self.serializer.serialize(payload, false, true) {
            self.out.extend_from_slice(&packet.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::{ChunkReader, kind};

    #[test]
    fn a_message_of_several_chunks_is_one_message() {
        let mut writer = MessageWriter::default();
        let body = |length: usize, seed: usize| (0..length).map(|at| (at * seed) as u8).collect::<Bytes>();
        // Small chunks to begin with, then others; times beyond 24 bits stand in each chunk.
        let messages = [(0, 300, 3), (40, 129, 5), (0x0100_0000, 150_000, 7), (0x0100_0028, 60_001, 11), (5, 10, 13)];
        for (at, (time_ms, length, seed)) in messages.into_iter().enumerate() {
            if at == 2 {
                writer.set_chunk_bytes(60_000);
            }
            writer.media(kind::VIDEO, time_ms, 1, body(length, seed));
            writer.media(kind::AUDIO, time_ms, 1, body(200, seed));
        }
        let mut reader = ChunkReader::default();
        reader.media_allowed = true;
        let (bytes, mut read) = (writer.take(), Vec::new());
        let mut input = &bytes[..];
        while let Some(message) = reader.read(&mut input).unwrap() {
            match message.kind {
                kind::SET_CHUNK_SIZE => reader.set_chunk_bytes(60_000).unwrap(),
                kind::VIDEO => read.push(message),
                _ => assert_eq!(message.payload.len(), 200),
            }
        }
        for ((time_ms, length, seed), message) in messages.into_iter().zip(&read) {
            assert_eq!((message.timestamp_ms, message.stream_id), (time_ms, 1));
            assert_eq!(message.payload, body(length, seed));
        }
        assert_eq!(read.len(), messages.len());
    }
}
