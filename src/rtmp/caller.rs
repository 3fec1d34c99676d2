//! The calling end of a connection, before anything is published or played (RTMP 1.0 sections 5.2 and 5.4): the handshake, chunk sizes,
//! acknowledgements, pings.

use rml_rtmp::{
    handshake::{Handshake, HandshakeProcessResult, PeerType},
    messages::UserControlEventType,
    rml_amf0::Amf0Value,
};

use super::{ChunkReader, Message, MessageWriter, kind};

/// Of the chunks that are sent: a picture is a few of them.
const CHUNK_BYTES: u32 = 60_000;
/// Until the other end names its own.
const WINDOW_BYTES: u64 = 2_500_000;
/// A window of a few bytes would make us answer every chunk.
const WINDOW_MIN_BYTES: u32 = 16 * 1024;

/// What came.
#[derive(Debug)]
pub enum Heard {
    /// The handshake is done: it is time for `connect`.
    Welcome,
    /// A message that is not about the connection itself.
    Message(Message),
    /// A user control event other than a ping.
    Control(u16),
}

/// See the module. What it answers by itself is in [`Caller::writer`], with what its owner says.
pub struct Caller {
    handshake: Option<Handshake>,
    pub reader: ChunkReader,
    pub writer: MessageWriter,
    received_bytes: u64,
    acknowledged_bytes: u64,
    window_bytes: u64,
}

impl Default for Caller {
    fn default() -> Self {
        let mut handshake = Handshake::new(PeerType::Client);
        let mut writer = MessageWriter::default();
        // Fails on a handshake that has begun only.
        if let Ok(hello) = handshake.generate_outbound_p0_and_p1() {
            writer.raw(&hello);
        }
        Self {
            handshake: Some(handshake),
            reader: ChunkReader::default(),
            writer,
            received_bytes: 0,
            acknowledged_bytes: 0,
            window_bytes: WINDOW_BYTES,
        }
    }
}

impl Caller {
    pub fn is_welcome(&self) -> bool {
        self.handshake.is_none()
    }

    /// Reads from the front of `input` until there is something to say; `None` when all of it is used up.
    ///
    /// # Errors
    /// What the other end does wrong, in words. The connection is of no use after it.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Heard>, String> {
        if self.handshake.is_some() {
            return self.shake_hands(input);
        }
        let before = input.len();
        let heard = self.read_messages(input);
        self.received_bytes += (before - input.len()) as u64;
        // Twice per window, so that a peer that waits for them never does (section 5.4.3).
        if self.received_bytes - self.acknowledged_bytes >= self.window_bytes / 2 {
            self.acknowledged_bytes = self.received_bytes;
            self.writer.acknowledge(self.received_bytes as u32);
        }
        heard
    }

    fn shake_hands(&mut self, input: &mut &[u8]) -> Result<Option<Heard>, String> {
        let Some(handshake) = &mut self.handshake else { return Ok(None) };
        let bytes = std::mem::take(input);
        match handshake.process_bytes(bytes) {
            Ok(HandshakeProcessResult::InProgress { response_bytes }) => {
                self.received_bytes += bytes.len() as u64;
                self.writer.raw(&response_bytes);
                Ok(None)
            }
            Ok(HandshakeProcessResult::Completed { response_bytes, remaining_bytes }) => {
                self.writer.raw(&response_bytes);
                self.writer.set_chunk_bytes(CHUNK_BYTES);
                self.handshake = None;
                // What is behind the handshake is the end of what came last.
                let used = bytes.len().saturating_sub(remaining_bytes.len());
                self.received_bytes += used as u64;
                *input = bytes.get(used..).unwrap_or_default();
                Ok(Some(Heard::Welcome))
            }
            Err(error) => Err(format!("what answers speaks no RTMP: {error}")),
        }
    }

    fn read_messages(&mut self, input: &mut &[u8]) -> Result<Option<Heard>, String> {
        loop {
            let Some(message) = self.reader.read(input).map_err(|error| error.to_string())? else { return Ok(None) };
            let number = || message.payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
            match message.kind {
                kind::SET_CHUNK_SIZE => {
                    self.reader.set_chunk_bytes(number().unwrap_or(0)).map_err(|error| error.to_string())?;
                }
                kind::ABORT => self.reader.abort(number().unwrap_or(0)),
                kind::WINDOW_ACKNOWLEDGEMENT_SIZE => {
                    self.window_bytes = number().map_or(WINDOW_BYTES, |bytes| u64::from(bytes.max(WINDOW_MIN_BYTES)));
                }
                kind::USER_CONTROL => {
                    const PING_REQUEST: u16 = 6;
                    let Some((event, rest)) = message.payload.split_first_chunk() else { continue };
                    match (u16::from_be_bytes(*event), rest.first_chunk()) {
                        (PING_REQUEST, Some(time)) => self.writer.pong(u32::from_be_bytes(*time)),
                        (PING_REQUEST, None) => {}
                        (event, _) => return Ok(Some(Heard::Control(event))),
                    }
                }
                kind::ACKNOWLEDGEMENT | kind::SET_PEER_BANDWIDTH => {}
                _ => return Ok(Some(Heard::Message(message))),
            }
        }
    }

    /// How much we like to have before it is played (section 7.1.7): the other end may hold back no more than that.
    pub fn set_buffer(&mut self, stream_id: u32, buffer_ms: u32) {
        let event = UserControlEventType::SetBufferLength;
        self.writer.user_control_with(event, Some(stream_id), Some(buffer_ms), None);
    }
}

/// A text of an information object, which is the last value of a command.
pub fn information<'a>(values: &'a [Amf0Value], name: &str) -> Option<&'a str> {
    match values.last() {
        Some(Amf0Value::Object(properties)) => match properties.get(name) {
            Some(Amf0Value::Utf8String(text)) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_handshake_is_told() {
        let mut caller = Caller::default();
        assert!(!caller.writer.take().is_empty() && !caller.is_welcome());
        let answer = [b'H'; 4_000];
        assert!(caller.read(&mut &answer[..]).is_err());
    }
}
