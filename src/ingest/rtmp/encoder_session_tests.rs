//! What some encoders send and most do not, as a whole session: aggregate messages.

use super::{
    enhanced_session_tests::{connected, message, publish},
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
