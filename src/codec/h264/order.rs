//! Keeps a stream in the order in which it is shown. WebRTC decoders show pictures as they are decoded; a B-frame comes
//! after the picture that it is shown before, so it has to be left out, and so has whatever cannot be decoded without it.
//!
//! In: access units in decoding order. Out: a [`Verdict`] on each. The rules:
//!
//! 1. A picture whose place in the order of output (picture order count, ITU-T H.264 section 8.2.1) lies before one that
//!    was already sent is left out. If nothing refers to it (`nal_ref_idc` 0), that is all.
//! 2. If others may refer to it (B-pyramids), leaving it out makes a hole among the reference pictures. What a receiver's
//!    decoder then holds is not what the encoder held: it counts a "non-existing" frame for the hole (section 8.2.5.2,
//!    which the sequence parameter set must allow: see [`Sps::with_gaps_allowed`]), and it has not seen the hole's own
//!    marking commands. So both buffers are followed, and the lists of references of each later P slice are built from
//!    its header for both (sections 8.2.4.1, 8.2.4.3 and 8.2.5). It is sent if they are the same pictures, all of them
//!    sent; if not it is left out too, which makes another hole if it is a reference itself.
//! 3. Where that bookkeeping does not reach (long-term references, interlaced fields, a parameter set that forbids gaps),
//!    a missing reference ends the sending until the next IDR picture.
//!
//! So the output is a stream that decodes without a missing reference, whatever comes in. x264's B-pyramids with one
//! reference (OBS's default) keep every P-frame; P-frames that refer to B-frames leave a picture that stands still until the
//! next keyframe. What to do about it is told to the publisher by the caller.

use bytes::Bytes;

use super::{
    ParameterSets,
    nal::{kind, unit_type},
    parameter_sets::{OrderCount, Sps},
    slice::{LIST_MAX, Marking, Modification, SliceHeader, SliceKind, pps_id},
};

/// What to do with an access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Send,
    /// Shown before a picture that was sent, and nothing refers to it.
    Reordered,
    /// Shown before a picture that was sent, and others may refer to it.
    ReorderedReference,
    /// In order, but a picture that it may refer to was left out.
    MissingReference,
    /// No IDR picture yet, or its slices cannot be read.
    Undecodable,
}

/// A short-term reference frame in a decoded picture buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reference {
    frame_num: u32,
    /// Which picture it is, counted.
    picture: u64,
    /// It was sent; else the receiver has a non-existing frame there.
    sent: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct DisplayOrder {
    /// What the encoder holds, in decoding order; at most [`LIST_MAX`].
    encoder: Vec<Reference>,
    /// What a receiver's decoder holds.
    receiver: Vec<Reference>,
    pictures: u64,
    /// False when these may not be what is held.
    exact: bool,
    /// Until the next IDR picture nothing can be sent.
    waiting: bool,
    started: bool,
    last_reference_frame_num: u32,
    /// Order count of the last reference picture: its high part and its low bits.
    order_base: (i64, u32),
    /// The latest place in the order of output that was sent.
    latest_sent: Option<i64>,
}

impl DisplayOrder {
    /// Judges one access unit; `presentation_ms` serves where the stream does not code its order of output.
    pub fn judge(&mut self, nals: &[Bytes], sets: &ParameterSets, presentation_ms: i64) -> Verdict {
        let Some((slices, sps)) = read_slices(nals, sets) else {
            self.waiting = true;
            return Verdict::Undecodable;
        };
        let Some(first) = slices.first() else { return Verdict::Send };
        let referenced = first.marking != Marking::None;
        if first.idr {
            self.restart();
        } else if self.waiting || !self.started {
            return Verdict::Undecodable;
        }
        if first.field || first.frame_num_skips(self.last_reference_frame_num, sps) {
            self.lose_track();
        }
        let place = self.place(first, sps, presentation_ms, referenced);
        let reordered = self.latest_sent.is_some_and(|latest| place <= latest);
        let decodable = first.idr || (!self.waiting && slices.iter().all(|slice| self.can_decode(slice, sps)));
        let send = !reordered && decodable;
        if send {
            self.latest_sent = Some(place);
        } else if referenced {
            self.waiting |= !(self.exact && sps.gaps_in_frame_num_allowed);
        }
        if referenced {
            self.mark(first, sps, send);
            // Nothing left to refer to; and a longer gap than the frame numbers can count must not come about.
            self.waiting |= self.encoder.iter().all(|reference| !reference.sent);
        }
        match (send, reordered, referenced) {
            (true, ..) => Verdict::Send,
            (_, true, false) => Verdict::Reordered,
            (_, true, true) => Verdict::ReorderedReference,
            (_, false, _) => Verdict::MissingReference,
        }
    }

    fn restart(&mut self) {
        *self = Self { exact: true, started: true, ..Self::default() };
    }

    /// The picture's place in the order of output.
    fn place(&mut self, slice: &SliceHeader, sps: &Sps, presentation_ms: i64, referenced: bool) -> i64 {
        match sps.order_count {
            OrderCount::Coded { low_bits } => {
                // Section 8.2.1.1: the high part follows when the low bits wrap.
                let range = 1i64 << low_bits;
                let (high, previous) = self.order_base;
                let ahead = i64::from(slice.order_low_bits) - i64::from(previous);
                let high = match ahead {
                    _ if ahead <= -range / 2 => high + range,
                    _ if ahead > range / 2 => high - range,
                    _ => high,
                };
                if referenced {
                    self.order_base = (high, slice.order_low_bits);
                }
                high + i64::from(slice.order_low_bits)
            }
            OrderCount::Expected { .. } => presentation_ms,
            OrderCount::DecodingOrder => self.latest_sent.unwrap_or(0) + 1,
        }
    }

    /// From here on the buffers are not known. That does no harm as long as nothing is missing from them.
    fn lose_track(&mut self) {
        self.exact = false;
        self.waiting |= !self.is_whole();
    }

    /// A receiver holds what the encoder holds.
    fn is_whole(&self) -> bool {
        self.encoder == self.receiver && self.encoder.iter().all(|reference| reference.sent)
    }

    fn can_decode(&self, slice: &SliceHeader, sps: &Sps) -> bool {
        if self.is_whole() {
            return true;
        }
        let marked = match &slice.marking {
            Marking::Adaptive { unused, .. } => unused.iter().all(|&difference| {
                self.receiver.iter().any(|reference| reference.number(slice, sps) == slice.number_before(difference))
            }),
            _ => true,
        };
        marked
            && match slice.kind {
                SliceKind::Other => true,
                SliceKind::B => false,
                SliceKind::P => {
                    let list = list_of(&self.encoder, slice, sps);
                    let all_sent = list.iter().flatten().all(|reference| reference.sent);
                    list.is_some() && all_sent && list == list_of(&self.receiver, slice, sps)
                }
            }
    }

    /// Updates both buffers as decoders do after this picture.
    fn mark(&mut self, slice: &SliceHeader, sps: &Sps, sent: bool) {
        self.pictures += 1;
        self.last_reference_frame_num = slice.frame_num;
        let reference = Reference { frame_num: slice.frame_num, picture: self.pictures, sent };
        match &slice.marking {
            Marking::None => return,
            Marking::Sliding => {
                slide(&mut self.encoder, slice, sps);
                slide(&mut self.receiver, slice, sps);
            }
            Marking::Adaptive { unused, beyond_short_term } => {
                let forget = |held: &mut Vec<Reference>| {
                    for &difference in unused {
                        held.retain(|held| held.number(slice, sps) != slice.number_before(difference));
                    }
                };
                forget(&mut self.encoder);
                if sent {
                    forget(&mut self.receiver);
                } else {
                    slide(&mut self.receiver, slice, sps);
                }
                if *beyond_short_term {
                    // One of these operations also restarts the order of output; the next pictures are judged afresh.
                    self.lose_track();
                    self.order_base = (0, 0);
                    self.latest_sent = None;
                }
            }
        }
        if self.encoder.len().max(self.receiver.len()) >= LIST_MAX as usize {
            self.lose_track();
            self.encoder.clear();
            self.receiver.clear();
        }
        self.encoder.push(reference);
        self.receiver.push(reference);
    }
}

impl Reference {
    /// `FrameNumWrap` (section 8.2.4.1), which for frames is `PicNum`, as seen from a slice.
    fn number(&self, slice: &SliceHeader, sps: &Sps) -> i64 {
        let number = i64::from(self.frame_num);
        if self.frame_num > slice.frame_num { number - (1 << sps.max_frame_num_bits) } else { number }
    }
}

/// The sliding window (section 8.2.5.3): makes room for one more.
fn slide(held: &mut Vec<Reference>, slice: &SliceHeader, sps: &Sps) {
    let room = sps.max_ref_frames.max(1) as usize;
    while held.len() >= room {
        let Some(oldest) = held.iter().map(|reference| reference.number(slice, sps)).min() else { return };
        held.retain(|reference| reference.number(slice, sps) != oldest);
    }
}

/// List 0 of a P slice of a frame (sections 8.2.4.2.1 and 8.2.4.3); `None` when it names a picture that is not there.
fn list_of(held: &[Reference], slice: &SliceHeader, sps: &Sps) -> Option<Vec<Reference>> {
    let range = 1i64 << sps.max_frame_num_bits;
    let current = i64::from(slice.frame_num);
    let mut list = held.to_vec();
    list.sort_by_key(|reference| std::cmp::Reverse(reference.number(slice, sps)));
    let length = slice.list_length as usize;
    list.truncate(length);
    let mut predicted = current;
    for (at, modification) in slice.modifications.iter().enumerate() {
        let difference = match modification {
            Modification::Subtract(difference) => -i64::from(*difference),
            Modification::Add(difference) => i64::from(*difference),
            Modification::LongTerm => return None,
        };
        predicted = (predicted + difference).rem_euclid(range);
        let wanted = if predicted > current { predicted - range } else { predicted };
        let named = *held.iter().find(|reference| reference.number(slice, sps) == wanted)?;
        list.insert(at.min(list.len()), named);
        let mut seen = 0;
        list.retain(|reference| {
            seen += 1;
            seen <= at + 1 || reference.picture != named.picture
        });
        list.truncate(length);
    }
    Some(list)
}

impl SliceHeader {
    /// `picNumX` of a marking command (section 8.2.5.4.1).
    fn number_before(&self, difference: u32) -> i64 {
        i64::from(self.frame_num) - i64::from(difference)
    }

    /// A number is missing between the last reference picture and this one: lost, or left out by the encoder.
    fn frame_num_skips(&self, last: u32, sps: &Sps) -> bool {
        !self.idr && self.frame_num != last && self.frame_num != (last + 1) % (1 << sps.max_frame_num_bits)
    }
}

/// The headers of an access unit's slices and the parameter set they are read with; `None` when one cannot be read.
fn read_slices<'a>(nals: &[Bytes], sets: &'a ParameterSets) -> Option<(Vec<SliceHeader>, &'a Sps)> {
    let mut slices = Vec::new();
    let mut sps = sets.first_sps()?;
    for nal in nals {
        match unit_type(nal) {
            kind::SLICE | kind::IDR_SLICE => {
                let (slice_sps, pps) = sets.of_picture(pps_id(nal)?)?;
                sps = slice_sps;
                slices.push(SliceHeader::parse(nal, sps, pps)?);
            }
            // Data partitioning is a tool of the extended profile, which no WebRTC client decodes.
            kind::PARTITION_A..=kind::PARTITION_C => return None,
            _ => {}
        }
    }
    Some((slices, sps))
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
