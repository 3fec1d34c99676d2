//! Aggregate messages (RTMP 1.0 section 7.1.6): several messages in one, each as an FLV file has it. Some encoders and servers send their
//! pictures and sound so, to spare themselves headers.

use bytes::{Buf, Bytes};

use super::{
    Message,
    chunk::{AUDIO_MAX_BYTES, kind},
};

/// Messages in an aggregate, of whichever kind: half a minute of pictures and sound.
const MESSAGES_MAX: usize = 4_096;
/// Type, size, time and stream of a message, and its size once more behind it.
const HEADER_BYTES: usize = 11;
const TRAILER_BYTES: usize = 4;

/// An aggregate cannot be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAggregate {
    #[error("an aggregate message is cut short")]
    Truncated,
    #[error("an aggregate message of more than {MESSAGES_MAX} messages")]
    TooMany,
    #[error("{0} bytes of sound in one message of an aggregate; at most {AUDIO_MAX_BYTES} are taken")]
    SoundTooLong(usize),
}

/// The messages with pictures and sound in an aggregate, in order; it ends with an error. Their times count from that of the first, which stands
/// for the aggregate's own.
pub fn messages_of(aggregate: &Message) -> impl Iterator<Item = Result<Message, BadAggregate>> + use<> {
    let Message { stream_id, timestamp_ms, ref payload, .. } = *aggregate;
    let mut rest = payload.clone();
    let mut first_ms = None;
    let mut read = move |count: usize| {
        let &[kind, s0, s1, s2, t0, t1, t2, t3, ..] = rest.first_chunk::<HEADER_BYTES>()?;
        if count == MESSAGES_MAX {
            return Some(Err(BadAggregate::TooMany));
        }
        let length = u32::from_be_bytes([0, s0, s1, s2]) as usize;
        let time_ms = u32::from_be_bytes([t3, t0, t1, t2]);
        let since_first_ms = time_ms.wrapping_sub(*first_ms.get_or_insert(time_ms));
        rest.advance(HEADER_BYTES);
        if length > rest.len() {
            return Some(Err(BadAggregate::Truncated));
        }
        // A copy: some of it stays, and the others should not because of that.
        let payload = Bytes::copy_from_slice(&rest.split_to(length));
        rest.advance(TRAILER_BYTES.min(rest.len()));
        Some(match kind {
            kind::AUDIO if length > AUDIO_MAX_BYTES => Err(BadAggregate::SoundTooLong(length)),
            _ => Ok(Message { kind, stream_id, timestamp_ms: timestamp_ms.wrapping_add(since_first_ms), payload }),
        })
    };
    let mut failed = false;
    (0..)
        .map_while(move |count| {
            let message = if failed { None } else { read(count) };
            failed |= matches!(message, Some(Err(_)));
            message
        })
        .filter(|message| message.as_ref().map_or(true, |message| matches!(message.kind, kind::AUDIO | kind::VIDEO)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aggregate(timestamp_ms: u32, messages: &[(u8, u32, &[u8])]) -> Message {
        let mut payload = Vec::new();
        for (kind, time_ms, body) in messages {
            let (length, time) = ((body.len() as u32).to_be_bytes(), time_ms.to_be_bytes());
            payload.extend([*kind, length[1], length[2], length[3], time[1], time[2], time[3], time[0], 0, 0, 0]);
            payload.extend_from_slice(body);
            payload.extend((body.len() as u32 + 11).to_be_bytes());
        }
        Message { kind: kind::AGGREGATE, stream_id: 1, timestamp_ms, payload: payload.into() }
    }

    #[test]
    fn pictures_and_sound_are_messages_at_times_of_their_own() {
        let data: (u8, u32, &[u8]) = (kind::DATA_AMF0, 1_010, b"c");
        let whole = aggregate(77, &[(kind::VIDEO, 1_000, b"a"), data, (kind::AUDIO, 0x0100_0000 + 1_020, b"bb")]);
        let read: Vec<_> = messages_of(&whole).map(Result::unwrap).collect();
        let told: Vec<_> =
            read.iter().map(|message| (message.kind, message.timestamp_ms, &message.payload[..])).collect();
        assert_eq!(told, [(kind::VIDEO, 77, &b"a"[..]), (kind::AUDIO, 0x0100_0000 + 97, b"bb")]);
        // Without the last size, as some leave it out.
        let cut = Message { payload: whole.payload.slice(..whole.payload.len() - 4), ..whole.clone() };
        assert_eq!(messages_of(&cut).count(), 2);
        let cut = Message { payload: whole.payload.slice(..whole.payload.len() - 5), ..whole };
        assert_eq!(messages_of(&cut).last(), Some(Err(BadAggregate::Truncated)));
    }

    #[test]
    fn what_an_aggregate_can_be_is_bounded() {
        let of = |count: usize, bytes: usize| aggregate(0, &vec![(kind::AUDIO, 0, &vec![0xaf; bytes][..]); count]);
        assert_eq!(messages_of(&of(MESSAGES_MAX, 1)).filter(Result::is_ok).count(), MESSAGES_MAX);
        let mut read = messages_of(&of(MESSAGES_MAX + 2, 1)).skip(MESSAGES_MAX);
        assert_eq!((read.next(), read.next()), (Some(Err(BadAggregate::TooMany)), None));
        let long = AUDIO_MAX_BYTES + 1;
        assert_eq!(messages_of(&of(1, long)).next(), Some(Err(BadAggregate::SoundTooLong(long))));
    }
}
