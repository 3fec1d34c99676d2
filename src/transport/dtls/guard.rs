//! What of a datagram may reach the DTLS stack: sound records, and not too many of them.
//!
//! `rtc-dtls` (0.21.1) can be hurt by what it accepts: it puts handshake fragments together by recursion, one level a
//! fragment, and does not count the ones without data against its limit; it keeps records of the next epoch and fragments of
//! finished messages without limit; it takes a message's length as the fragment's. So every record is looked at here first, and
//! the number and bytes of handshake records are limited per association.

use bytes::BytesMut;

const RECORD_HEADER_BYTES: usize = 13;
const FRAGMENT_HEADER_BYTES: usize = 12;
/// DTLS fits its handshake into the path's MTU; nobody's is above an Ethernet frame's, and VPNs lie downwards.
const DATAGRAM_MAX_BYTES: usize = 2048;
/// A certificate chain of RSA keys is about 5 KB; self-signed ones are under 1 KB.
const MESSAGE_MAX_BYTES: u32 = 16 * 1024;
/// The longest handshake has 8 messages from one side, two more when its hello had to be repeated with a cookie.
const MESSAGE_SEQUENCE_MAX: u16 = 16;

/// What an association may still take in. Retransmissions count too: a peer repeats its flight about 10 times in the 10 s that
/// a handshake may last, and a flight is at most 8 messages in a few kilobytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    records: u16,
    bytes: u32,
}

impl Budget {
    /// 10 repetitions x 8 messages x 3 fragments each, and as many bytes as 60 full datagrams.
    pub const HANDSHAKE: Self = Self { records: 240, bytes: 60 * 1200 };
    /// Behind the handshake only the peer's final flight comes again, if ours was lost.
    pub const REPEATS: Self = Self { records: 64, bytes: 16 * 1024 };

    fn spend(&mut self, record_bytes: usize) -> bool {
        let (Some(records), Some(bytes)) = (self.records.checked_sub(1), self.bytes.checked_sub(record_bytes as u32))
        else {
            return false;
        };
        *self = Self { records, bytes };
        true
    }
}

/// How far the association is, which decides what may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Handshake,
    /// Connected, but the peer may not know it yet: its flight may come again.
    Linger,
    /// Connected: only an alert of the protected epoch is awaited.
    Settled,
}

mod content {
    pub const CHANGE_CIPHER_SPEC: u8 = 20;
    pub const ALERT: u8 = 21;
    pub const HANDSHAKE: u8 = 22;
}

/// The records of `datagram` that may pass, as a datagram of their own; `None` if none may.
///
/// Application data never passes: WebRTC media has none (no data channels here).
pub(super) fn admit(datagram: &[u8], stage: Stage, budget: &mut Budget) -> Option<BytesMut> {
    if datagram.len() > DATAGRAM_MAX_BYTES {
        return None;
    }
    let mut admitted = BytesMut::new();
    let mut rest = datagram;
    while let Some((record, after)) = split_record(rest) {
        rest = after;
        if may_pass(&record, stage) && budget.spend(record.bytes.len()) {
            admitted.extend_from_slice(record.bytes);
        }
    }
    (!admitted.is_empty()).then_some(admitted)
}

/// The guard of an association that another DTLS stack of the same make keeps, as the `webrtc` crate does.
#[derive(Debug)]
pub struct DtlsGuard {
    stage: Stage,
    budget: Budget,
}

impl Default for DtlsGuard {
    fn default() -> Self {
        Self { stage: Stage::Handshake, budget: Budget::HANDSHAKE }
    }
}

impl DtlsGuard {
    /// What of a datagram may reach the stack.
    pub fn admit(&mut self, datagram: &[u8]) -> Option<BytesMut> {
        admit(datagram, self.stage, &mut self.budget)
    }

    /// The handshake is over.
    pub fn connected(&mut self) {
        if self.stage == Stage::Handshake {
            (self.stage, self.budget) = (Stage::Linger, Budget::REPEATS);
        }
    }
}

struct Record<'a> {
    content: u8,
    epoch: u16,
    /// With its header.
    bytes: &'a [u8],
    body: &'a [u8],
}

/// The first record of DTLS 1.0 (a hello may carry it) or 1.2 (RFC 6347 section 4.1).
fn split_record(datagram: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let header = datagram.first_chunk::<RECORD_HEADER_BYTES>()?;
    let [content, major, minor, epoch_high, epoch_low, _, _, _, _, _, _, length_high, length_low] = *header;
    if major != 0xfe || !matches!(minor, 0xff | 0xfd) {
        return None;
    }
    let body_bytes = usize::from(u16::from_be_bytes([length_high, length_low]));
    let (bytes, after) = datagram.split_at_checked(RECORD_HEADER_BYTES + body_bytes)?;
    let body = bytes.get(RECORD_HEADER_BYTES..)?;
    Some((Record { content, epoch: u16::from_be_bytes([epoch_high, epoch_low]), bytes, body }, after))
}

fn may_pass(record: &Record<'_>, stage: Stage) -> bool {
    if record.body.is_empty() {
        return false;
    }
    match (stage, record.epoch, record.content) {
        // Without a repeated handshake there is no third epoch.
        (_, 2.., _) => false,
        (Stage::Handshake | Stage::Linger, 0, content::HANDSHAKE) => is_sound_fragment(record.body),
        (Stage::Handshake, 0, content::CHANGE_CIPHER_SPEC | content::ALERT) => true,
        (Stage::Handshake | Stage::Linger, 1, content::HANDSHAKE) => true,
        (_, 1, content::ALERT) => true,
        _ => false,
    }
}

/// A record with one or more whole fragments, each of which says no more than it carries (RFC 6347 section 4.2.3).
fn is_sound_fragment(mut body: &[u8]) -> bool {
    loop {
        let Some((header, data)) = body.split_first_chunk::<FRAGMENT_HEADER_BYTES>() else { return false };
        let [_, l0, l1, l2, s0, s1, o0, o1, o2, f0, f1, f2] = *header;
        let message_bytes = u32::from_be_bytes([0, l0, l1, l2]);
        let sequence = u16::from_be_bytes([s0, s1]);
        let offset = u32::from_be_bytes([0, o0, o1, o2]);
        let fragment_bytes = u32::from_be_bytes([0, f0, f1, f2]);
        let is_whole = fragment_bytes == message_bytes && offset == 0;
        let is_part = fragment_bytes > 0 && offset + fragment_bytes <= message_bytes;
        if message_bytes > MESSAGE_MAX_BYTES || sequence > MESSAGE_SEQUENCE_MAX || !(is_whole || is_part) {
            return false;
        }
        let Some((_, after)) = data.split_at_checked(fragment_bytes as usize) else { return false };
        if after.is_empty() {
            return true;
        }
        // The stack finds the next message by this one's length, so a part must be alone in its record.
        if !is_whole {
            return false;
        }
        body = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content: u8, epoch: u16, body: &[u8]) -> Vec<u8> {
        let mut record = vec![content, 0xfe, 0xfd];
        record.extend(epoch.to_be_bytes());
        record.extend([0; 6]);
        record.extend((body.len() as u16).to_be_bytes());
        record.extend(body);
        record
    }

    fn fragment(message_bytes: u32, sequence: u16, offset: u32, data: &[u8]) -> Vec<u8> {
        let mut fragment = vec![1];
        fragment.extend(&message_bytes.to_be_bytes()[1..]);
        fragment.extend(sequence.to_be_bytes());
        fragment.extend(&offset.to_be_bytes()[1..]);
        fragment.extend(&(data.len() as u32).to_be_bytes()[1..]);
        fragment.extend(data);
        fragment
    }

    fn passes(datagram: &[u8], stage: Stage) -> bool {
        admit(datagram, stage, &mut Budget::HANDSHAKE.clone()).is_some()
    }

    #[test]
    fn only_fragments_that_carry_what_they_say_pass() {
        let pass = |body: &[u8]| passes(&record(22, 0, body), Stage::Handshake);
        assert!(pass(&fragment(3, 0, 0, b"abc")));
        assert!(pass(&fragment(0, 0, 0, b"")));
        assert!(pass(&fragment(9, 0, 3, b"def")));
        assert!(pass(&[fragment(3, 0, 0, b"abc"), fragment(3, 1, 0, b"abc")].concat()));
        assert!(!pass(&fragment(9, 0, 3, b"")), "a part without data");
        assert!(!pass(&fragment(9, 0, 8, b"def")), "behind the message's end");
        assert!(!pass(&fragment(9, 17, 0, b"def")), "a message that no handshake has");
        assert!(!pass(&fragment(20_000, 0, 0, b"def")), "a message that is too long");
        assert!(!pass(&fragment(3, 0, 0, b"abc")[..14]), "cut off");
        assert!(!pass(&[fragment(9, 0, 0, b"abc"), fragment(3, 1, 0, b"abc")].concat()), "a part that is not alone");
    }

    #[test]
    fn the_stage_decides_which_records_pass() {
        let hello = fragment(3, 0, 0, b"abc");
        let cases = [
            (record(22, 0, &hello), [true, true, false]),
            (record(20, 0, &[1]), [true, false, false]),
            (record(21, 0, &[2, 40]), [true, false, false]),
            (record(23, 0, b"data"), [false, false, false]),
            (record(22, 1, b"sealed"), [true, true, false]),
            (record(21, 1, b"sealed"), [true, true, true]),
            (record(23, 1, b"sealed"), [false, false, false]),
            (record(22, 2, b"sealed"), [false, false, false]),
            (record(21, 1, b""), [false, false, false]),
        ];
        for (datagram, expected) in cases {
            let passed = [Stage::Handshake, Stage::Linger, Stage::Settled].map(|stage| passes(&datagram, stage));
            assert_eq!(passed, expected, "{datagram:?}");
        }
    }

    #[test]
    fn the_good_records_of_a_datagram_pass_without_the_others() {
        let good = record(22, 0, &fragment(3, 0, 0, b"abc"));
        let datagram = [good.clone(), record(23, 0, b"data"), good.clone(), good[..20].to_vec()].concat();
        let admitted = admit(&datagram, Stage::Handshake, &mut Budget::HANDSHAKE.clone());
        assert_eq!(admitted.as_deref(), Some(&[good.clone(), good].concat()[..]));
    }

    #[test]
    fn a_budget_ends_a_flood() {
        let mut budget = Budget::HANDSHAKE;
        let datagram = record(22, 1, b"sealed");
        let passed = (0..1000).filter(|_| admit(&datagram, Stage::Handshake, &mut budget).is_some()).count();
        assert_eq!(passed, 240);
    }
}
