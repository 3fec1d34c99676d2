//! Keeps a stream in the order in which it is shown. WebRTC decoders show pictures as they are decoded; a B-frame comes
//! after the picture that it is shown before, so it has to be left out, and so has whatever cannot be decoded without it.
//!
//! In: access units in decoding order. Out: a [`Verdict`] on each. The rules:
//!
//! 1. A picture whose place in the order of output (picture order count, ITU-T H.264 section 8.2.1) lies before one that
//!    was already sent is left out. If nothing refers to it (`nal_ref_idc` 0), that is all.
//! 2. If others may refer to it (B-pyramids), leaving it out makes a hole among the reference pictures. The lists of
//!    references of later P slices are rebuilt from their headers (sections 8.2.4.1, 8.2.4.3 and 8.2.5.3), and a picture
//!    that could refer to a hole is left out too, which makes another hole if it is a reference itself. A receiver's
//!    decoder counts the hole as a "non-existing" frame (section 8.2.5.2), which the sequence parameter set must allow:
//!    see [`Sps::with_gaps_allowed`].
//! 3. Where that bookkeeping does not reach (long-term references, interlaced fields, a parameter set that forbids gaps,
//!    marking commands in a picture left out), a missing reference ends the sending until the next IDR picture.
//!
//! So the output is a stream that decodes without a missing reference, whatever comes in; with B-pyramids and P-frames
//! that refer to B-frames it is a stuttering one. What to do about it is told to the publisher by the caller.

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

/// A short-term reference frame, as an encoder's and a decoder's buffer hold it.
#[derive(Debug, Clone, Copy)]
struct Reference {
    frame_num: u32,
    /// It was sent.
    present: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct DisplayOrder {
    /// In decoding order; at most [`LIST_MAX`].
    references: Vec<Reference>,
    /// False when `references` may not be what a decoder has.
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
            self.exact = false;
        }
        let place = self.place(first, sps, presentation_ms, referenced);
        let reordered = self.latest_sent.is_some_and(|latest| place <= latest);
        let decodable = first.idr || slices.iter().all(|slice| self.can_decode(slice, sps));
        let send = !reordered && decodable;
        if send {
            self.latest_sent = Some(place);
        } else if referenced {
            let replaceable = self.exact && sps.gaps_in_frame_num_allowed && first.marking == Marking::Sliding;
            self.waiting |= !replaceable;
        }
        if referenced {
            self.mark(first, sps, send);
            // Nothing left to refer to; and a longer gap than the frame numbers can count must not come about.
            self.waiting |= self.references.iter().all(|reference| !reference.present);
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

    fn can_decode(&self, slice: &SliceHeader, sps: &Sps) -> bool {
        let whole = self.references.iter().all(|reference| reference.present);
        match slice.kind {
            SliceKind::Other => true,
            // What was left out while the lists were not exact has stopped the sending altogether.
            _ if whole || !self.exact => true,
            SliceKind::B => false,
            SliceKind::P => self.list_of(slice, sps).is_some_and(|list| list.iter().all(|entry| entry.present)),
        }
    }

    /// List 0 of a P slice of a frame (sections 8.2.4.2.1 and 8.2.4.3); `None` when it names a picture that is not there.
    fn list_of(&self, slice: &SliceHeader, sps: &Sps) -> Option<Vec<Reference>> {
        let range = 1i64 << sps.max_frame_num_bits;
        let current = i64::from(slice.frame_num);
        let number = |reference: &Reference| picture_number(reference.frame_num, current, range);
        let mut list = self.references.clone();
        list.sort_by_key(|reference| std::cmp::Reverse(number(reference)));
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
            let named = *self.references.iter().find(|reference| number(reference) == wanted)?;
            list.insert(at.min(list.len()), named);
            let mut seen = 0;
            list.retain(|reference| {
                seen += 1;
                seen <= at + 1 || number(reference) != wanted
            });
            list.truncate(length);
        }
        Some(list)
    }

    /// Updates the reference pictures as a decoder does after this one.
    fn mark(&mut self, slice: &SliceHeader, sps: &Sps, present: bool) {
        let range = 1i64 << sps.max_frame_num_bits;
        let current = i64::from(slice.frame_num);
        match &slice.marking {
            Marking::None => return,
            Marking::Sliding => {
                let room = sps.max_ref_frames.max(1) as usize;
                while self.references.len() >= room {
                    let oldest = (0..self.references.len())
                        .min_by_key(|&at| picture_number(self.references[at].frame_num, current, range));
                    match oldest {
                        Some(at) => drop(self.references.remove(at)),
                        None => break,
                    }
                }
            }
            Marking::Adaptive { unused, beyond_short_term } => {
                for difference in unused {
                    let wanted = current - i64::from(*difference);
                    self.references.retain(|reference| picture_number(reference.frame_num, current, range) != wanted);
                }
                if *beyond_short_term {
                    // Operation 5 also restarts the order of output; the next pictures are judged afresh.
                    self.exact = false;
                    self.order_base = (0, 0);
                    self.latest_sent = None;
                }
            }
        }
        self.last_reference_frame_num = slice.frame_num;
        if self.references.len() >= LIST_MAX as usize {
            self.exact = false;
            self.references.clear();
        }
        self.references.push(Reference { frame_num: slice.frame_num, present });
    }
}

impl SliceHeader {
    /// A number is missing between the last reference picture and this one: lost, or left out by the encoder.
    fn frame_num_skips(&self, last: u32, sps: &Sps) -> bool {
        !self.idr && self.frame_num != last && self.frame_num != (last + 1) % (1 << sps.max_frame_num_bits)
    }
}

/// `FrameNumWrap` (section 8.2.4.1), which for frames is `PicNum`.
fn picture_number(frame_num: u32, current: i64, range: i64) -> i64 {
    let frame_num = i64::from(frame_num);
    if frame_num > current { frame_num - range } else { frame_num }
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
