//! What client and server tell each other of Enhanced RTMP (v2, "Enhancing NetConnection connect Command").

use std::collections::HashMap;

use rml_rtmp::rml_amf0::Amf0Value;

/// Codecs that are taken.
const VIDEO: [&str; 5] = ["avc1", "hvc1", "av01", "vp09", "vp08"];
const AUDIO: [&str; 2] = ["mp4a", "Opus"];
/// `FourCcInfoMask`.
const CAN_DECODE: f64 = 1.0;
const CAN_FORWARD: f64 = 4.0;
/// `CapsExMask`.
const RECONNECT: u32 = 0x01;
const MULTITRACK: u32 = 0x02;
const MODIFIERS: u32 = 0x04;
const TIMESTAMP_OFFSET_NS: u32 = 0x08;

/// What the peer said with `connect`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peer {
    /// It knows [`RECONNECT_REQUEST`].
    pub reconnects: bool,
}

/// The status that asks a peer to connect again.
pub const RECONNECT_REQUEST: &str = "NetConnection.Connect.ReconnectRequest";

impl Peer {
    pub fn of(command_object: Option<&Amf0Value>) -> Self {
        let Some(Amf0Value::Object(properties)) = command_object else { return Self::default() };
        let Some(Amf0Value::Number(capabilities)) = properties.get("capsEx") else { return Self::default() };
        // Saturates; what is no number is none.
        Self { reconnects: *capabilities as u32 & RECONNECT != 0 }
    }
}

/// What is added to an object of the answer.
pub fn announce(properties: &mut HashMap<String, Amf0Value>) {
    announce_as(properties, CAN_FORWARD, RECONNECT | MULTITRACK | MODIFIERS | TIMESTAMP_OFFSET_NS);
}

/// What is added to a player's `connect`: so a server sends pictures and sound that Flash never knew, or says that it cannot.
pub fn announce_player(properties: &mut HashMap<String, Amf0Value>) {
    announce_as(properties, CAN_DECODE + CAN_FORWARD, MULTITRACK | MODIFIERS | TIMESTAMP_OFFSET_NS);
}

fn announce_as(properties: &mut HashMap<String, Amf0Value>, can: f64, capabilities: u32) {
    let text = |text: &&str| Amf0Value::Utf8String((*text).to_owned());
    let forwarded = |codecs: &[&str]| {
        let pairs = codecs.iter().map(|codec| ((*codec).to_owned(), Amf0Value::Number(can)));
        Amf0Value::Object(pairs.collect())
    };
    let list = VIDEO.iter().chain(&AUDIO).map(text).collect();
    properties.insert("fourCcList".into(), Amf0Value::StrictArray(list));
    properties.insert("videoFourCcInfoMap".into(), forwarded(&VIDEO));
    properties.insert("audioFourCcInfoMap".into(), forwarded(&AUDIO));
    properties.insert("capsEx".into(), Amf0Value::Number(f64::from(capabilities)));
}
