use bytes::Buf;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;

const HEVC: &[u8] = include_bytes!("../../../tests/fixtures/rtp/hevc.rtp");
const VP9: &[u8] = include_bytes!("../../../tests/fixtures/rtp/vp9.rtp");
const AV1: &[u8] = include_bytes!("../../../tests/fixtures/rtp/av1.rtp");

/// The payloads of each picture of a recording (`tests/fixtures/rtp`, see the README there).
fn recorded(recording: &'static [u8]) -> Vec<Vec<Bytes>> {
    let mut rest = Bytes::from_static(recording);
    let mut pictures: Vec<Vec<Bytes>> = Vec::new();
    let mut time = None;
    while rest.has_remaining() {
        let length = usize::from(rest.get_u16());
        let packet = rest.split_to(length);
        let timestamp = packet.slice(4..8);
        if time.as_ref() != Some(&timestamp) {
            pictures.push(Vec::new());
            time = Some(timestamp);
        }
        pictures.last_mut().unwrap().push(packet.slice(12..));
    }
    pictures
}

fn whole(codec: Codec, recording: &'static [u8]) -> Vec<Picture> {
    let mut depacketizer = Depacketizer::new(codec).unwrap();
    recorded(recording).iter().map(|payloads| depacketizer.picture(payloads).unwrap()).collect()
}

const SIZE: PictureSize = PictureSize { width: 160, height: 90 };

#[test]
fn what_ffmpeg_packetizes_becomes_pictures_again() {
    for (codec, recording, entry, codecs) in [
        (Codec::Hevc, HEVC, b"hvc1", "hvc1.1.6.L30.90"),
        (Codec::Vp9, VP9, b"vp09", "vp09.01.10.08"),
        (Codec::Av1, AV1, b"av01", "av01.0.00M.08"),
    ] {
        let pictures = whole(codec, recording);
        assert_eq!(pictures.len(), 30, "{codec}");
        let keyframes: Vec<_> = (0..30).filter(|at| pictures[*at].keyframe).collect();
        assert_eq!(keyframes, [0, 10, 20], "{codec}");
        let setup = pictures[0].setup.as_ref().unwrap();
        assert_eq!((&setup.entry, setup.codecs.as_str(), setup.size), (entry, codecs, SIZE));
        assert!(pictures[1..].iter().all(|picture| picture.setup.is_some() == picture.keyframe));
        assert!(
            std::sync::Arc::ptr_eq(setup, pictures[20].setup.as_ref().unwrap()),
            "{codec}: the same is not made anew"
        );
    }
}

#[test]
fn hevc_keeps_slices_and_says_the_rest_in_its_configuration() {
    let pictures = whole(Codec::Hevc, HEVC);
    for picture in &pictures {
        let mut data = picture.data.clone();
        while data.has_remaining() {
            let length = data.get_u32() as usize;
            let kind = data[0] >> 1 & 0x3f;
            assert!(kind <= 31 || kind == 39 || kind == 40, "{kind}");
            data.advance(length);
        }
    }
    let configuration = &pictures[0].setup.as_ref().unwrap().configuration;
    assert_eq!((configuration[0], configuration[1] & 0x1f, configuration[12]), (1, 1, 30), "version, Main, level 1");
    assert_eq!((configuration[16], configuration[17], configuration[18]), (0xfd, 0xf8, 0xf8), "4:2:0 of 8 bits");
    assert_eq!((configuration[21] & 3, configuration[22]), (3, 3), "lengths of four bytes, three kinds of sets");
    assert_eq!((configuration[23], configuration[24], configuration[25]), (0x80 | 32, 0, 1));
}

#[test]
fn av1_has_lengths_and_no_delimiters() {
    for picture in whole(Codec::Av1, AV1) {
        let mut data = picture.data.clone();
        while data.has_remaining() {
            let header = data.get_u8();
            assert_eq!(header & 0x06, 0x02, "a length, no layers");
            assert_ne!(header >> 3 & 0x0f, 2, "a delimiter");
            let (length, rest) = crate::codec::av1::leb128(&data).unwrap();
            let of_length = data.len() - rest.len();
            data.advance(of_length + length);
        }
    }
    let configuration = &whole(Codec::Av1, AV1)[0].setup.as_ref().unwrap().configuration.clone();
    assert_eq!((configuration[0], configuration[1], configuration[2] & 0x7c), (0x81, 0, 0x0c), "Main, 4:2:0 of 8 bits");
    assert_eq!(configuration[4], 0x0a, "the sequence header, with its length");
}

#[test]
fn spatial_layers_of_vp9_become_a_superframe() {
    let frames: Vec<_> = recorded(VP9).remove(0);
    let keyframe: Vec<u8> =
        frames.iter().flat_map(|payload| crate::codec::vp9::frame_part(payload).unwrap().1).copied().collect();
    // Two layers: the second refers to the first, and is of the same picture.
    let lower = [&[0xac, 0x85, 0x01, 0x00, 0][..], &keyframe].concat();
    let upper = [&[0xac, 0x85, 0x01, 0x03, 0][..], b"upper"].concat();
    let picture = Depacketizer::new(Codec::Vp9).unwrap().picture(&[lower.into(), upper.into()]).unwrap();
    assert!(picture.keyframe);
    let index = &picture.data[keyframe.len() + 5..];
    assert_eq!((index[0], index[9], index.len()), (0b1101_1001, 0b1101_1001, 10));
    assert_eq!(u32::from_le_bytes(index[1..5].try_into().unwrap()) as usize, keyframe.len());
    assert_eq!(index[5], 5);
}

const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03,
    0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
];
const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

fn stap(nals: &[&[u8]]) -> Bytes {
    let mut payload = vec![0x78];
    for nal in nals {
        payload.extend((nal.len() as u16).to_be_bytes());
        payload.extend_from_slice(nal);
    }
    payload.into()
}

#[test]
fn avc_is_put_together_of_aggregations_and_fragments() {
    let mut pictures = AvcPictures::default();
    let payloads = [
        stap(&[SPS, PPS, &[0x09, 0xf0]]),
        Bytes::from_static(&[0x7c, 0x85, 1, 2]),
        Bytes::from_static(&[0x7c, 0x05, 3]),
        Bytes::from_static(&[0x7c, 0x45, 4]),
        Bytes::from_static(&[0x06, 5, 1, 0x80]),
    ];
    let picture = pictures.of_payloads(&payloads).unwrap();
    assert_eq!(&picture.data[..], [0, 0, 0, 5, 0x65, 1, 2, 3, 4, 0, 0, 0, 4, 6, 5, 1, 0x80]);
    let setup = picture.setup.unwrap();
    assert_eq!((setup.codecs.as_str(), setup.size), ("avc1.42c01e", PictureSize { width: 640, height: 360 }));
    let record = crate::codec::h264::DecoderConfiguration::parse(&setup.configuration).unwrap();
    assert_eq!(
        (record.length_bytes, &record.parameter_sets[..]),
        (4, &[Bytes::from_static(SPS), Bytes::from_static(PPS)][..])
    );
    // Later pictures go without; an IDR before any parameter set is nothing to begin with.
    let delta = pictures.of_payloads(&[Bytes::from_static(&[0x41, 7])]).unwrap();
    assert_eq!((delta.keyframe, delta.setup), (false, None));
    let idr = [Bytes::from_static(&[0x65, 7])];
    assert!(pictures.of_payloads(&idr).unwrap().setup.is_some());
    assert_eq!(AvcPictures::default().of_payloads(&idr), Err(BadPicture::NoSetup));
}

#[test]
fn fragments_that_do_not_fit_together_are_no_picture() {
    let mut pictures = AvcPictures::default();
    let (begin, middle, end) = ([0x7c, 0x81, 1], [0x7c, 0x01, 2], [0x7c, 0x41, 3]);
    for payloads in [&[middle, end][..], &[begin, middle], &[begin, begin, end]] {
        let payloads: Vec<_> = payloads.iter().map(|payload| Bytes::copy_from_slice(payload)).collect();
        assert_eq!(pictures.of_payloads(&payloads), Err(BadPicture::LoneFragment));
    }
    assert_eq!(pictures.of_payloads(&[stap(&[&[9, 0xf0]])]), Err(BadPicture::Empty));
    assert_eq!(pictures.of_payloads(&[Bytes::from_static(&[0x78, 0, 9, 1])]), Err(BadPicture::Truncated));
    assert_eq!(pictures.of_payloads(&[Bytes::from_static(&[0x79, 0])]), Err(BadPicture::Structure));
}

#[test]
fn access_units_behind_lengths_stay_as_they_are_unless_parameter_sets_are_among_them() {
    let mut pictures = AvcPictures::default();
    let unit = Bytes::from_static(&[0, 0, 0, 2, 0x65, 7]);
    assert_eq!(pictures.of_lengths(&unit, 4), Err(BadPicture::NoSetup));
    let with_sets = [&[0, 0, 0, SPS.len() as u8][..], SPS, &[0, 0, 0, PPS.len() as u8], PPS, &unit].concat();
    let picture = pictures.of_lengths(&with_sets.into(), 4).unwrap();
    assert_eq!(picture.data, unit);
    let same = pictures.of_lengths(&unit, 4).unwrap().data;
    assert_eq!((same.as_ptr(), same.len()), (unit.as_ptr(), unit.len()), "shared, not copied");
    assert_eq!(pictures.of_lengths(&Bytes::from_static(&[0, 2, 0x65, 7]), 2).unwrap().data, unit);
    assert_eq!(pictures.of_lengths(&Bytes::from_static(&[0, 0, 0, 9, 1]), 4), Err(BadPicture::Truncated));
}

/// Changes some bytes and lengths.
fn mutate(random: &mut StdRng, payload: &Bytes) -> Bytes {
    let mut bytes = payload.to_vec();
    for _ in 0..random.random_range(0..4) {
        match random.random_range(0..4) {
            0 if !bytes.is_empty() => {
                let at = random.random_range(0..bytes.len().min(40));
                bytes[at] = random.random();
            }
            1 => bytes.truncate(random.random_range(0..=bytes.len())),
            2 => bytes.extend_from_within(..bytes.len().min(9)),
            _ => bytes.insert(random.random_range(0..=bytes.len()), random.random()),
        }
    }
    bytes.into()
}

#[test]
fn no_payloads_make_a_depacketizer_panic_or_hoard() {
    let avc = vec![
        vec![stap(&[SPS, PPS]), Bytes::from_static(&[0x7c, 0x85, 1, 2]), Bytes::from_static(&[0x7c, 0x45, 4])],
        vec![Bytes::from_static(&[0x41, 7, 7])],
    ];
    for (codec, pictures) in
        [(Codec::H264, avc), (Codec::Hevc, recorded(HEVC)), (Codec::Vp9, recorded(VP9)), (Codec::Av1, recorded(AV1))]
    {
        let mut random = StdRng::seed_from_u64(7);
        let mut depacketizer = Depacketizer::new(codec).unwrap();
        let mut taken = 0u32;
        for round in 0..50_000 {
            let payloads = &pictures[round % pictures.len()];
            let mutated: Vec<_> = payloads.iter().take(8).map(|payload| mutate(&mut random, payload)).collect();
            let bytes: usize = mutated.iter().map(Bytes::len).sum();
            if let Ok(picture) = depacketizer.picture(&mutated) {
                taken += 1;
                assert!(picture.data.len() <= 4 * bytes + 64, "{codec}: {} of {bytes}", picture.data.len());
                let setup = picture.setup.map_or(0, |setup| setup.configuration.len());
                assert!(setup <= 3 * 16 * 4_200, "{codec}: {setup}");
            }
        }
        assert!(taken > 500, "{codec}: {taken}");
    }
}
