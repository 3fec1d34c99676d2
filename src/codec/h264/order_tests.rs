//! What is left of real streams: made by x264 from a test picture of 96x64, 60 pictures, a keyframe every 30, three
//! B-frames in a row (`tests/fixtures/h264`, see the README there).

use super::*;

/// The access units of an Annex B stream whose pictures have one slice each.
fn access_units(stream: &[u8]) -> Vec<Vec<Bytes>> {
    let starts: Vec<_> = stream.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(at, _)| at + 3).collect();
    let ends = starts.iter().skip(1).map(|start| start - 3).chain([stream.len()]);
    let mut units = vec![Vec::new()];
    for (&start, end) in starts.iter().zip(ends) {
        let nal = stream[start..end].strip_suffix(&[0]).unwrap_or(&stream[start..end]);
        units.last_mut().unwrap().push(Bytes::copy_from_slice(nal));
        if matches!(unit_type(nal), kind::SLICE | kind::IDR_SLICE) {
            units.push(Vec::new());
        }
    }
    units.pop();
    units
}

/// One letter per picture: S sent, r reordered, R reordered reference, m missing reference, u undecodable.
fn verdicts(stream: &[u8]) -> String {
    let mut order = DisplayOrder::default();
    let mut sets = ParameterSets::default();
    let judge = |nals: &Vec<Bytes>| {
        for nal in nals.iter().filter(|nal| matches!(unit_type(nal), kind::SPS | kind::PPS)) {
            sets.insert(nal).unwrap();
        }
        match order.judge(nals, &sets, 0) {
            Verdict::Send => 'S',
            Verdict::Reordered => 'r',
            Verdict::ReorderedReference => 'R',
            Verdict::MissingReference => 'm',
            Verdict::Undecodable => 'u',
        }
    };
    access_units(stream).iter().map(judge).collect()
}

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/fixtures/h264/", $name))
    };
}

#[test]
fn a_stream_in_order_is_sent_whole() {
    assert_eq!(verdicts(fixture!("in-order.264")), "S".repeat(60));
}

#[test]
fn b_frames_that_nothing_refers_to_are_left_out() {
    let gop = "SSrrrSrrrSrrrSrrrSrrrSrrrSrrrS";
    assert_eq!(verdicts(fixture!("b-frames.264")), gop.repeat(2));
}

#[test]
fn p_frames_that_do_not_refer_to_b_frames_are_sent() {
    let gop = "SSRrrSRrrSRrrSRrrSRrrSRrrSRrrS";
    assert_eq!(verdicts(fixture!("b-pyramid-ref1.264")), gop.repeat(2));
}

#[test]
fn p_frames_that_may_refer_to_b_frames_end_the_sending_until_the_next_keyframe() {
    let verdicts = verdicts(fixture!("b-pyramid-ref3.264"));
    let (first, second) = verdicts.split_at(30);
    assert_eq!(first, second);
    assert!(first.starts_with("SSRrrm"), "{first}");
    assert!(!first[5..].contains('S'), "{first}");
}

#[test]
fn nothing_is_sent_before_the_first_keyframe() {
    let stream = fixture!("in-order.264");
    let mut order = DisplayOrder::default();
    let mut sets = ParameterSets::default();
    for (at, nals) in access_units(stream).iter().enumerate() {
        for nal in nals.iter().filter(|nal| matches!(unit_type(nal), kind::SPS | kind::PPS)) {
            sets.insert(nal).unwrap();
        }
        if at > 0 {
            let expected = if at < 30 { Verdict::Undecodable } else { Verdict::Send };
            assert_eq!(order.judge(nals, &sets, 0), expected, "picture {at}");
        }
    }
}

#[test]
fn damaged_slices_and_parameter_sets_never_panic() {
    let mut seed = 7u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    for stream in [&fixture!("b-frames.264")[..], fixture!("b-pyramid-ref3.264"), fixture!("in-order.264")] {
        for _ in 0..40 {
            let mut order = DisplayOrder::default();
            let mut sets = ParameterSets::default();
            for mut nals in access_units(stream) {
                for nal in &mut nals {
                    let mut bytes = nal.to_vec();
                    if random() % 4 == 0 {
                        let at = random() % bytes.len().min(40);
                        bytes[at] ^= 1 << (random() % 8);
                    }
                    *nal = bytes.into();
                    let _ = sets.insert(nal);
                }
                order.judge(&nals, &sets, 0);
                assert!(order.encoder.len() <= LIST_MAX as usize && order.receiver.len() <= LIST_MAX as usize);
            }
        }
    }
}
