//! Chunks become messages (RTMP 1.0 section 5.3), with a bound on everything that the peer can make us keep.
//!
//! What a peer declares costs nothing: a buffer grows with what has come, and has the declared length no sooner than a quarter of it is
//! there. All buffers together, what they could hold and not what they do, are at most [`PARTIAL_MAX_BYTES`]; a message that is whole was
//! one of them. With the quarter that is moved once, a connection takes less than 4 MiB here, whatever it sends.
//!
//! `rml_rtmp`'s deserializer is not used for what comes in: it knows one message in progress for all chunk streams, so
//! interleaved messages break it (and a shorter message in between makes it subtract below zero); it reserves and waits
//! for whatever length is declared; its table of chunk streams grows to 65,599 headers.

use bytes::Bytes;

/// Chunk size before the peer sets another (section 5.3).
const INITIAL_CHUNK_BYTES: usize = 128;
/// Chunk streams a peer may use. Encoders use 3 to 8.
const CHUNK_STREAMS_MAX: usize = 32;
/// Basic header, message header, extended timestamp.
const HEADER_MAX_BYTES: usize = 3 + 11 + 4;
/// Commands and metadata: a connect with a 4 KB token, or an encoder's whole `onMetaData`, is below 8 KB.
const COMMAND_MAX_BYTES: usize = 32 * 1024;
/// The longest AAC frame is 6,144 bits per channel and 8 channels: 6 KB, of eight tracks in one message 48 KB. Uncompressed sound is refused
/// anyway.
pub(super) const AUDIO_MAX_BYTES: usize = 64 * 1024;
/// One picture: a keyframe of 4K video at 50 Mb/s, 300 ms worth of bits, is 1.9 MB.
const VIDEO_MAX_BYTES: usize = 5 * 512 * 1024;
/// Several messages of pictures and sound in one, of encoders and servers that spare headers. All of them are handled at one time.
const AGGREGATE_MAX_BYTES: usize = 512 * 1024;
/// All messages in progress together: the largest picture, and what comes between its chunks.
pub const PARTIAL_MAX_BYTES: usize = VIDEO_MAX_BYTES + 512 * 1024;
/// A message's buffer begins with this, or with its whole length.
const BUFFER_MIN_BYTES: usize = 1024;
/// A buffer gets the whole length when this part of the message is there.
const DECLARED_PER_RECEIVED: usize = 4;
const _: () = assert!(PARTIAL_MAX_BYTES + VIDEO_MAX_BYTES / DECLARED_PER_RECEIVED < 4 * 1024 * 1024);

/// Message type ids (sections 5.4 and 7.1).
pub mod kind {
    pub const SET_CHUNK_SIZE: u8 = 1;
    pub const ABORT: u8 = 2;
    pub const ACKNOWLEDGEMENT: u8 = 3;
    pub const USER_CONTROL: u8 = 4;
    pub const WINDOW_ACKNOWLEDGEMENT_SIZE: u8 = 5;
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    pub const AUDIO: u8 = 8;
    pub const VIDEO: u8 = 9;
    pub const DATA_AMF3: u8 = 15;
    pub const COMMAND_AMF3: u8 = 17;
    pub const DATA_AMF0: u8 = 18;
    pub const COMMAND_AMF0: u8 = 20;
    pub const AGGREGATE: u8 = 22;
}

/// A message, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub kind: u8,
    pub stream_id: u32,
    /// Milliseconds, wrapping.
    pub timestamp_ms: u32,
    pub payload: Bytes,
}

/// The peer breaks the protocol or a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadChunk {
    #[error("more than {CHUNK_STREAMS_MAX} chunk streams")]
    TooManyStreams,
    #[error("chunk stream {0} begins with a header that refers to an earlier one")]
    NoEarlierHeader(u32),
    #[error("chunk stream {0} begins a message before its last one is whole")]
    MessageInterrupted(u32),
    #[error("a message of type {kind} with {declared_bytes} bytes; at most {max_bytes} are taken")]
    MessageTooLong { kind: u8, declared_bytes: usize, max_bytes: usize },
    #[error("unfinished messages that take more than {PARTIAL_MAX_BYTES} bytes")]
    TooMuchUnfinished,
    #[error("chunks of {0} bytes; at least 1 and less than 2^31 are taken")]
    ChunkSize(u32),
}

#[derive(Debug)]
struct ChunkStream {
    id: u32,
    timestamp_ms: u32,
    /// The timestamp field of the last header, for chunks that repeat it.
    field: u32,
    extended: bool,
    length: usize,
    kind: u8,
    stream_id: u32,
    partial: Vec<u8>,
    /// A message was begun and is not whole; an empty `partial` does not tell.
    unfinished: bool,
}

/// See the module.
#[derive(Debug)]
pub struct ChunkReader {
    chunk_bytes: usize,
    streams: Vec<ChunkStream>,
    /// The beginning of a header that has not arrived whole, or of the bytes after it.
    header: Vec<u8>,
    /// Place of the stream whose chunk is being read, and how much of the chunk is missing.
    current: Option<(usize, usize)>,
    /// What the streams' buffers have room for.
    buffer_bytes: usize,
    /// Media is taken only from a peer that may publish.
    pub media_allowed: bool,
}

impl Default for ChunkReader {
    fn default() -> Self {
        Self {
            chunk_bytes: INITIAL_CHUNK_BYTES,
            streams: Vec::new(),
            header: Vec::with_capacity(HEADER_MAX_BYTES),
            current: None,
            buffer_bytes: 0,
            media_allowed: false,
        }
    }
}

/// A chunk's header as parsed from enough bytes.
struct Header {
    bytes: usize,
    format: u8,
    id: u32,
}

impl ChunkReader {
    /// Reads from the front of `input` until a message is whole; `None` when `input` is used up.
    ///
    /// # Errors
    /// [`BadChunk`]; the connection is of no use after it.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, BadChunk> {
        loop {
            if let Some((at, missing)) = self.current {
                let from_header = missing.min(self.header.len());
                let take = if from_header > 0 { from_header } else { missing.min(input.len()) };
                self.make_room(at, take)?;
                let stream = &mut self.streams[at];
                if from_header > 0 {
                    stream.partial.extend(self.header.drain(..take));
                } else {
                    let (now, later) = input.split_at(take);
                    *input = later;
                    stream.partial.extend_from_slice(now);
                }
                if take < missing {
                    self.current = Some((at, missing - take));
                    if self.header.is_empty() && input.is_empty() {
                        return Ok(None);
                    }
                    continue;
                }
                self.current = None;
                if stream.partial.len() == stream.length {
                    return Ok(Some(self.finish(at)));
                }
            }
            if !self.read_header(input)? {
                return Ok(None);
            }
        }
    }

    /// Room in a stream's buffer for so many bytes more.
    fn make_room(&mut self, at: usize, more_bytes: usize) -> Result<(), BadChunk> {
        let ChunkStream { partial, length, .. } = &mut self.streams[at];
        let (had, wanted) = (partial.capacity(), partial.len() + more_bytes);
        if wanted <= had {
            return Ok(());
        }
        let share = *length / DECLARED_PER_RECEIVED;
        let room = if wanted >= share { *length } else { wanted.max(2 * had).max(BUFFER_MIN_BYTES).min(share) };
        if self.buffer_bytes - had + room > PARTIAL_MAX_BYTES {
            return Err(BadChunk::TooMuchUnfinished);
        }
        partial.reserve_exact(room - partial.len());
        self.buffer_bytes += partial.capacity() - had;
        Ok(())
    }

    /// The peer's chunks are of this size from now on.
    ///
    /// # Errors
    /// [`BadChunk::ChunkSize`] (section 5.4.1: the highest bit is zero, and at least 1).
    pub fn set_chunk_bytes(&mut self, bytes: u32) -> Result<(), BadChunk> {
        if bytes == 0 || bytes > i32::MAX as u32 {
            return Err(BadChunk::ChunkSize(bytes));
        }
        self.chunk_bytes = bytes as usize;
        Ok(())
    }

    /// The peer gives up the message in progress on a chunk stream (section 5.4.2).
    pub fn abort(&mut self, id: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
            self.buffer_bytes -= std::mem::take(&mut stream.partial).capacity();
            stream.unfinished = false;
        }
    }

    /// Bytes kept of messages that are not whole.
    #[cfg(test)]
    pub(crate) fn kept_bytes(&self) -> usize {
        self.streams.iter().map(|stream| stream.partial.capacity()).sum()
    }

    fn finish(&mut self, at: usize) -> Message {
        let stream = &mut self.streams[at];
        stream.unfinished = false;
        let payload = std::mem::take(&mut stream.partial);
        self.buffer_bytes -= payload.capacity();
        Message {
            kind: stream.kind,
            stream_id: stream.stream_id,
            timestamp_ms: stream.timestamp_ms,
            payload: payload.into(),
        }
    }

    /// True when a header was read whole and `current` is set.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<bool, BadChunk> {
        // At most 18 bytes are looked at; what the header does not use goes back.
        let kept = self.header.len();
        let take = (HEADER_MAX_BYTES - kept).min(input.len());
        self.header.extend_from_slice(&input[..take]);
        let header = std::mem::take(&mut self.header);
        let used = self.parse_header(&header)?;
        self.header = header;
        match used {
            Some(used) => {
                *input = &input[used.saturating_sub(kept)..];
                // Bytes kept for an extended timestamp that turned out not to be there belong to the message.
                self.header.truncate(kept.max(used));
                self.header.drain(..used);
                Ok(true)
            }
            None => {
                *input = &input[take..];
                Ok(false)
            }
        }
    }

    /// The header's length, once it is there as a whole.
    fn parse_header(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadChunk> {
        let Some(header) = basic_header(bytes) else { return Ok(None) };
        let known = self.streams.iter().position(|stream| stream.id == header.id);
        if known.is_none() && header.format != 0 {
            return Err(BadChunk::NoEarlierHeader(header.id));
        }
        if known.is_none() && self.streams.len() == CHUNK_STREAMS_MAX {
            return Err(BadChunk::TooManyStreams);
        }
        let message_bytes = [11, 7, 3, 0][usize::from(header.format)];
        let Some(fields) = bytes.get(header.bytes..header.bytes + message_bytes) else { return Ok(None) };
        let mut used = header.bytes + message_bytes;
        let continues = known.is_some_and(|at| self.streams[at].unfinished);
        let u24 = |at: usize| u32::from_be_bytes([0, fields[at], fields[at + 1], fields[at + 2]]);
        let field = if header.format < 3 { u24(0) } else { 0 };
        let extended = match known {
            Some(at) if header.format == 3 => self.streams[at].extended,
            _ => field == 0xff_ffff,
        };
        let mut time = field;
        if extended {
            let Some(&extension) = bytes.get(used..used + 4).and_then(|bytes| bytes.first_chunk()) else {
                return Ok(None);
            };
            time = u32::from_be_bytes(extension);
            // Some encoders leave the extended timestamp out of the chunks that go on with a message (section 5.3.1.3
            // wants it): then these four bytes are media.
            if !(continues && header.format == 3 && known.is_some_and(|at| self.streams[at].field != time)) {
                used += 4;
            }
        }
        let at = known.unwrap_or_else(|| {
            self.streams.push(ChunkStream::new(header.id));
            self.streams.len() - 1
        });
        let stream = &mut self.streams[at];
        if !continues {
            if header.format < 3 {
                stream.field = time;
                stream.extended = extended;
            }
            // Without a header of its own a message repeats the last field, as a difference (section 5.3.1.2.4).
            stream.timestamp_ms =
                if header.format == 0 { time } else { stream.timestamp_ms.wrapping_add(stream.field) };
            if header.format < 2 {
                stream.length = u24(3) as usize;
                stream.kind = fields[6];
            }
            if header.format == 0 {
                stream.stream_id = u32::from_le_bytes([fields[7], fields[8], fields[9], fields[10]]);
            }
            let (kind, declared_bytes) = (stream.kind, stream.length);
            let max_bytes = max_bytes(kind, self.media_allowed);
            if declared_bytes > max_bytes {
                return Err(BadChunk::MessageTooLong { kind, declared_bytes, max_bytes });
            }
            stream.unfinished = true;
        } else if header.format != 3 {
            return Err(BadChunk::MessageInterrupted(header.id));
        }
        self.current = Some((at, self.chunk_bytes.min(stream.length - stream.partial.len())));
        Ok(Some(used))
    }
}

impl ChunkStream {
    fn new(id: u32) -> Self {
        Self {
            id,
            timestamp_ms: 0,
            field: 0,
            extended: false,
            length: 0,
            kind: 0,
            stream_id: 0,
            partial: Vec::new(),
            unfinished: false,
        }
    }
}

fn basic_header(bytes: &[u8]) -> Option<Header> {
    let first = *bytes.first()?;
    let (id, used) = match first & 0x3f {
        0 => (u32::from(*bytes.get(1)?) + 64, 2),
        1 => (u32::from(*bytes.get(2)?) * 256 + u32::from(*bytes.get(1)?) + 64, 3),
        id => (u32::from(id), 1),
    };
    Some(Header { bytes: used, format: first >> 6, id })
}

fn max_bytes(kind: u8, media_allowed: bool) -> usize {
    match kind {
        kind::VIDEO if media_allowed => VIDEO_MAX_BYTES,
        kind::AGGREGATE if media_allowed => AGGREGATE_MAX_BYTES,
        kind::AUDIO if media_allowed => AUDIO_MAX_BYTES,
        _ => COMMAND_MAX_BYTES,
    }
}
