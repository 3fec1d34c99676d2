//! What encoders send and others do not, as a whole session: B-frames, and what x264 says of itself; aggregate messages, streams beside the
//! one that is published.

use rml_rtmp::rml_amf0::{self, Amf0Value};

use super::{
    enhanced_session_tests::{connected, message, publish, text},
    *,
};

fn tag(kind: u8, ms: u32, body: &[u8]) -> Vec<u8> {
    let (length, time) = ((body.len() as u32).to_be_bytes(), ms.to_be_bytes());
    let head = [kind, length[1], length[2], length[3], time[1], time[2], time[3], time[0], 0, 0, 0];
    [&head, body, &(body.len() as u32 + 11).to_be_bytes()].concat()
}

#[test]
fn messages_in_an_aggregate_are_messages() {
    let context = open();
    let (mut session, _) = connected(&context, &[]);
    session.handle_bytes(epoch(), &message(kind::AGGREGATE, 1, &tag(kind::VIDEO, 0, &[0x17])));
    assert_eq!(session.ending(), None, "before it may, that is nothing");
    publish(&mut session);
    let (configuration, pictures) = avc(include_bytes!("../../../tests/fixtures/h264/in-order.264"));
    let messages = [configuration].into_iter().chain(pictures.into_iter().take(3));
    let mut aggregate: Vec<_> = (0..).zip(messages).flat_map(|(at, body)| tag(kind::VIDEO, 33 * at, &body)).collect();
    aggregate.extend(tag(kind::AUDIO, 0, &[0xaf, 0, 0x12, 0x10]));
    session.handle_bytes(ms(9_900), &message(kind::AGGREGATE, 1, &aggregate));
    session.handle_timeout(ms(10_000));
    assert_eq!(session.ending(), None, "it is media");
    assert!(matches!(session.poll_sound(), Some(SoundInput::Config(_))));
    let state = context.streams.get(&"cam1".parse().unwrap()).unwrap().state();
    assert_eq!(state.tracks[0].keyframes, 1);
    assert!(state.tracks[0].packets >= 3, "{}", state.tracks[0].packets);
    session.handle_bytes(ms(10_000), &message(kind::AGGREGATE, 1, &aggregate[..aggregate.len() / 2]));
    assert_eq!(session.ending(), Some(&Ending::Failed("an aggregate message is cut short".into())));
}

#[test]
fn an_aggregate_of_very_many_messages_is_refused() {
    let context = open();
    let (mut session, _) = connected(&context, &[]);
    publish(&mut session);
    let aggregate = tag(kind::AUDIO, 0, &[0]).repeat(5_000);
    session.handle_bytes(epoch(), &message(kind::AGGREGATE, 1, &aggregate));
    assert!(matches!(session.ending(), Some(Ending::Failed(reason)) if reason.contains("4096 messages")));
}

#[test]
fn only_what_ends_the_published_stream_takes_it_off() {
    let number = |number: u8| Amf0Value::Number(number.into());
    // The command, its message's stream, its argument; and whether the stream is still on.
    let cases = [
        ("deleteStream", 0, number(2), true),
        ("deleteStream", 2, number(1), false),
        ("deleteStream", 0, number(0), false),
        ("deleteStream", 1, Amf0Value::Null, false),
        ("closeStream", 2, Amf0Value::Null, true),
        ("closeStream", 1, Amf0Value::Null, false),
        ("closeStream", 0, Amf0Value::Null, false),
        ("FCUnpublish", 0, text("cam2"), true),
        ("FCUnpublish", 0, text("live/cam2?token=abc"), true),
        ("FCUnpublish", 0, text("cam1"), false),
        ("FCUnpublish", 0, text("cam1?token=abc"), false),
        ("FCUnpublish", 0, text("rtmp://h/live/cam1"), false),
        ("FCUnpublish", 0, Amf0Value::Null, false),
    ];
    for (name, stream_id, argument, stays) in cases {
        let (mut session, _) = connected(&open(), &[]);
        publish(&mut session);
        let told = format!("{name} on {stream_id} of {argument:?}");
        let body = rml_amf0::serialize(&vec![text(name), number(9), Amf0Value::Null, argument]).unwrap();
        session.handle_bytes(epoch(), &message(20, stream_id, &body));
        assert_eq!((session.is_publishing(), session.ending()), (stays, None), "{told}");
    }
}

#[test]
fn a_decoder_configuration_has_a_length_that_encoders_write() {
    let (mut session, _) = connected(&open(), &[]);
    publish(&mut session);
    let (configuration, _) = avc(include_bytes!("../../../tests/fixtures/h264/in-order.264"));
    session.handle_bytes(epoch(), &message(kind::VIDEO, 1, &[&configuration[..], &[0; 80_000]].concat()));
    assert!(matches!(session.ending(), Some(Ending::Failed(reason)) if reason.contains("decoder configuration of")));
}

#[test]
fn b_frames_are_left_out_and_the_publisher_is_told_the_setting() {
    let context = open();
    let mut pair = live(&context, "cam1");
    let stream = context.streams.get(&"cam1".parse().unwrap()).unwrap();
    let counter = Arc::new(Counter::default());
    stream.subscribe(WorkerIndex(0), counter.clone());
    let (configuration, pictures) = avc(include_bytes!("../../../tests/fixtures/h264/b-frames.264"));
    pair.video(ms(0), 0, configuration);
    for (at, picture) in pictures.into_iter().enumerate() {
        pair.video(ms(33 * at as u64), 33 * at as u32, picture);
    }
    assert_eq!(counter.0.lock().0, 18, "9 of 30 pictures in each group");
    let notices = stream.state().notices;
    assert_eq!(notices[0].code, "b-frames-dropped");
    assert!(notices[0].text.contains("bframes=0") && notices[0].text.contains("Max B-frames 0"));
}

#[test]
fn b_frames_that_are_encoded_anew_are_told_of_in_the_protocol_too() {
    let mut context = open();
    Arc::get_mut(&mut context).unwrap().reencodes = true;
    let mut pair = live(&context, "cam1");
    let stream = context.streams.get(&"cam1".parse().unwrap()).unwrap();
    stream.subscribe(WorkerIndex(0), Arc::new(Counter::default()));
    assert_eq!(stream.wants_reencoding(), None, "nothing has come yet");
    let file = include_bytes!("../../../tests/fixtures/h264/b-frames.264");
    let (configuration, mut pictures) = avc(file);
    // Before the first picture x264 says how it was set up.
    let begin = file.windows(4).position(|start| start == [0, 0, 1, 6]).unwrap() + 3;
    let end = begin + file[begin..].windows(3).position(|start| start == [0, 0, 1]).unwrap();
    let message = [&((end - begin) as u32).to_be_bytes(), &file[begin..end]].concat();
    pictures[0].splice(5..5, message);
    pair.video(ms(0), 0, configuration);
    for (at, picture) in pictures.into_iter().enumerate() {
        pair.video(ms(33 * at as u64), 33 * at as u32, picture);
    }
    assert!(stream.wants_reencoding().is_some());
    let notices = pair.control.1.lock().clone();
    let codes: Vec<_> = notices.iter().map(|notice| notice.code).collect();
    assert_eq!(codes, ["encoder-delay", "b-frames-reencoded"]);
    assert!(notices[0].text.contains("holds back 10 pictures") && notices[0].text.contains("tune=zerolatency"));
    assert!(notices[1].text.contains("bframes=0") && notices[1].text.contains("Max B-frames 0"));
    pair.session.handle_notice(&notices[1]);
    let said = String::from_utf8_lossy(&pair.session.take_output()).into_owned();
    for part in ["onStatus", "warning", "NetStream.Publish.Notice", "bframes=0"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(pair.session.ending().is_none());
}
