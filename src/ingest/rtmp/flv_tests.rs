use super::*;

fn video(body: &'static [u8]) -> VideoTag {
    main(VideoTag::parse(&Bytes::from_static(body)).unwrap())
}

/// Of a message of the main track alone.
fn main<T: std::fmt::Debug>(tagged: Tagged<T>) -> T {
    assert!(!tagged.left_out);
    assert_eq!(tagged.tags.len(), 1);
    let (id, tag) = tagged.tags.into_iter().next().unwrap();
    assert_eq!(id, MAIN_TRACK);
    tag
}

fn audio(body: &'static [u8]) -> AudioTag {
    main(AudioTag::parse(&Bytes::from_static(body)).unwrap())
}

fn picture(codec: Codec, keyframe: bool, composition_ms: i32) -> VideoTag {
    VideoTag::Picture(PictureTag { codec, keyframe, composition_ms, offset_ns: 0, data: Bytes::from_static(b"x") })
}

#[test]
fn avc_is_read_in_both_forms() {
    let data = Bytes::from_static(b"x");
    assert_eq!(video(b"\x17\0\0\0\0x"), VideoTag::Configuration(Codec::H264, data.clone()));
    assert_eq!(video(b"\x27\x01\xff\xff\xfex"), picture(Codec::H264, false, -2));
    assert_eq!(video(b"\x90avc1x"), VideoTag::Configuration(Codec::H264, data));
    assert_eq!(video(b"\xa1avc1\0\0\x50x"), picture(Codec::H264, false, 80));
    assert_eq!(video(b"\x93avc1x"), picture(Codec::H264, true, 0));
    assert_eq!(video(b"\x57\0"), VideoTag::Ignored);
}

#[test]
fn newer_codecs_are_read() {
    let data = Bytes::from_static(b"x");
    assert_eq!(video(b"\x90hvc1x"), VideoTag::Configuration(Codec::Hevc, data.clone()));
    assert_eq!(video(b"\xa1hvc1\0\0\x50x"), picture(Codec::Hevc, false, 80));
    assert_eq!(video(b"\x1c\x01\0\0\x05x"), picture(Codec::Hevc, true, 5));
    // Without composition times.
    assert_eq!(video(b"\x91av01x"), picture(Codec::Av1, true, 0));
    assert_eq!(video(b"\xa1vp09x"), picture(Codec::Vp9, false, 0));
    assert_eq!(video(b"\xa3vp08x"), picture(Codec::Vp8, false, 0));
    assert_eq!(audio(b"\x91Opusx"), AudioTag::OpusPacket(data.clone()));
    assert_eq!(audio(b"\x90Opusx"), AudioTag::OpusConfiguration(data.clone()));
    assert_eq!(audio(b"\x91mp4ax"), AudioTag::AacFrame(data));
    // Metadata, the end of a sequence, a command.
    for ignored in [&b"\x94av01x"[..], b"\x92av01x", b"\xd0\0", b"\x98av01x"] {
        let tagged = VideoTag::parse(&Bytes::copy_from_slice(ignored)).unwrap();
        assert!(tagged.tags.iter().all(|(_, tag)| *tag == VideoTag::Ignored), "{ignored:?}");
    }
}

#[test]
fn other_codecs_are_named() {
    assert_eq!(video(b"\x90vvc1x"), VideoTag::Unsupported("vvc1".into()));
    assert_eq!(video(b"\x12abc"), VideoTag::Unsupported("Sorenson H.263".into()));
    assert_eq!(video(b"\x95av01x"), VideoTag::Unsupported("av01 in its MPEG-2 TS form".into()));
    assert_eq!(audio(b"\x2fabc"), AudioTag::Unsupported("MP3".into()));
    assert_eq!(audio(b"\x91.mp3x"), AudioTag::Unsupported("MP3".into()));
    assert_eq!(audio(b"\x90ac-3x"), AudioTag::Unsupported("AC-3".into()));
    assert_eq!(audio(b"\xaf\x01"), AudioTag::Ignored, "a frame of nothing");
}

#[test]
fn a_tag_cut_within_its_header_is_refused() {
    let cut = [&b"\x17\0\0"[..], b"\x90avc", b"\xa1avc1\0\0", b"\x96", b"\x96\x11avc1\0\0\0\x05x", b"\x97\x02abc"];
    for body in cut {
        assert!(VideoTag::parse(&Bytes::copy_from_slice(body)).is_err(), "{body:?}");
    }
    assert!(AudioTag::parse(&Bytes::from_static(b"\xaf")).is_err());
}

#[test]
fn several_tracks_are_told_apart_however_they_lie_in_messages() {
    let parse = |body: &[u8]| VideoTag::parse(&Bytes::copy_from_slice(body)).unwrap();
    let ids = |tagged: &Tagged<VideoTag>| tagged.tags.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    let is_of = |tagged: &Tagged<VideoTag>, at: usize, codec| matches!(&tagged.tags[at].1, VideoTag::Picture(picture) if picture.codec == codec && picture.keyframe);
    // One track in a message: the first, another.
    assert_eq!(main(parse(b"\x96\x03avc1\0x")), picture(Codec::H264, true, 0));
    let another = parse(b"\x96\x03avc1\x01y");
    assert_eq!((ids(&another), is_of(&another, 0, Codec::H264)), (vec![1], true));
    // Several of one codec, then of several.
    let several = parse(b"\x96\x13avc1\x01\0\0\x01y\0\0\0\x01x");
    assert_eq!((ids(&several), is_of(&several, 1, Codec::H264)), (vec![1, 0], true));
    let several = parse(b"\x96\x23hvc1\x02\0\0\x01yavc1\0\0\0\x01x");
    assert!(ids(&several) == [2, 0] && is_of(&several, 0, Codec::Hevc) && is_of(&several, 1, Codec::H264));
    let sound = AudioTag::parse(&Bytes::from_static(b"\x95\x11Opus\0\0\0\x01x\x01\0\0\x01y")).unwrap();
    assert_eq!(sound.tags[0], (0, AudioTag::OpusPacket(Bytes::from_static(b"x"))));
    // One id twice, and more than are read.
    assert!(parse(b"\x96\x13avc1\0\0\0\x01y\0\0\0\x01x").left_out);
    let many = (0..200).flat_map(|id| [id, 0, 0, 1, b'x']);
    let many = parse(&b"\x96\x13avc1".iter().copied().chain(many).collect::<Vec<_>>());
    assert!(many.left_out && many.tags.len() == TRACKS_MAX);
}

#[test]
fn modifiers_are_read_over_and_nanoseconds_are_taken() {
    let parse = |body: &[u8]| main(VideoTag::parse(&Bytes::copy_from_slice(body)).unwrap());
    let offset = |tag| match tag {
        VideoTag::Picture(picture) => (picture.offset_ns, picture.data),
        other => panic!("{other:?}"),
    };
    let data = Bytes::from_static(b"x");
    // 500,000 ns, then a modifier nobody knows, then the frame.
    assert_eq!(offset(parse(b"\x97\x02\x07\xa1\x20\x07\x00z\x51av01x")), (500_000, data.clone()));
    assert_eq!(offset(parse(b"\x97\x02\xff\xff\xff\x01av01x")), (999_999, data));
    let long = [&[0x97, 0xff, 0x01, 0x2b][..], &[0; 300], b"\x11av01x"].concat();
    assert_eq!(offset(parse(&long)).0, 0);
    let endless = [&[0x97][..], &[0, 0, 0x07].repeat(40)].concat();
    assert!(VideoTag::parse(&endless.into()).is_err());
}
