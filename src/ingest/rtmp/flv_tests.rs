use super::*;

fn video(body: &'static [u8]) -> VideoTag {
    let Tagged { tag, has_other_tracks } = VideoTag::parse(&Bytes::from_static(body)).unwrap();
    assert!(!has_other_tracks);
    tag
}

fn audio(body: &'static [u8]) -> AudioTag {
    AudioTag::parse(&Bytes::from_static(body)).unwrap().tag
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
        assert_eq!(VideoTag::parse(&Bytes::copy_from_slice(ignored)).unwrap().tag, VideoTag::Ignored);
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
fn of_several_tracks_the_first_is_the_stream() {
    let parse = |body: &[u8]| VideoTag::parse(&Bytes::copy_from_slice(body)).unwrap();
    let taken = |has_other_tracks| Tagged { tag: picture(Codec::H264, true, 0), has_other_tracks };
    // One track in a message: the first, another.
    assert_eq!(parse(b"\x96\x03avc1\0x"), taken(false));
    assert_eq!(parse(b"\x96\x03avc1\x01y"), Tagged { tag: VideoTag::Ignored, has_other_tracks: true });
    // Several of one codec, then of several.
    assert_eq!(parse(b"\x96\x13avc1\x01\0\0\x01y\0\0\0\x01x"), taken(true));
    assert_eq!(parse(b"\x96\x23hvc1\x02\0\0\x01yavc1\0\0\0\x01x"), taken(true));
    let sound = AudioTag::parse(&Bytes::from_static(b"\x95\x11Opus\0\0\0\x01x\x01\0\0\x01y")).unwrap();
    assert_eq!(sound, Tagged { tag: AudioTag::OpusPacket(Bytes::from_static(b"x")), has_other_tracks: true });
}

#[test]
fn modifiers_are_read_over_and_nanoseconds_are_taken() {
    let parse = |body: &[u8]| VideoTag::parse(&Bytes::copy_from_slice(body)).unwrap().tag;
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
