//! The playing end of an RTMP connection, as players have it (RTMP 1.0 section 7.2.2.1): a stream is asked for, and its messages come.
//! Sans-I/O; knows no tree.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rml_rtmp::rml_amf0::Amf0Value;

use super::enhanced;
use crate::{
    config::{RtmpUrl, without_secrets},
    rtmp::{Caller, Heard, Message, amf, information, kind, messages_of},
};

/// From the connection until the source says that it plays.
const BEGIN_DEADLINE: Duration = Duration::from_secs(10);
/// Between two messages of media, and before the first.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// What we call ourselves. Some servers look for the form of Flash Player.
const FLASH_VERSION: &str = "LNX 9,0,124,2 (compatible; Sluice)";
/// As little as servers take that hold a stream back until a player could have so much.
const BUFFER_MS: u32 = 500;
/// A live stream, or else one that is recorded (section 7.2.2.1); in milliseconds, as all clients write it.
const LIVE_OR_RECORDED: f64 = -2_000.0;
/// Letters kept of what the source calls itself.
const SERVER_NAME_MAX_LETTERS: usize = 128;
/// And of what it says.
const REASON_MAX_LETTERS: usize = 200;

/// Transactions.
const CONNECT: f64 = 1.0;
const CREATE_STREAM: f64 = 2.0;
const PLAY: f64 = 3.0;
const DELETE_STREAM: f64 = 4.0;

/// Why nothing more comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlayEnd {
    /// The source says that the stream is over.
    Over(String),
    /// It refuses, or makes no sense.
    Failed(String),
    /// A deadline passed.
    Silent(&'static str),
}

/// A message with pictures or sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Played {
    pub is_video: bool,
    /// Milliseconds, wrapping.
    pub time_ms: u32,
    pub body: Bytes,
}

/// See the module.
pub struct PlayClient {
    url: RtmpUrl,
    caller: Caller,
    stream_id: u32,
    plays: bool,
    has_media: bool,
    deadline: Instant,
    server_name: String,
    end: Option<PlayEnd>,
}

impl PlayClient {
    pub fn new(url: RtmpUrl, now: Instant) -> Self {
        Self {
            url,
            caller: Caller::default(),
            stream_id: 0,
            plays: false,
            has_media: false,
            deadline: now + BEGIN_DEADLINE,
            server_name: String::new(),
            end: None,
        }
    }

    /// Why it is over, once it is.
    pub fn end(&self) -> Option<&PlayEnd> {
        self.end.as_ref()
    }

    /// What the source calls itself; empty when it does not.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// Bytes to be sent, possibly none.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.caller.writer.take()
    }

    pub fn poll_timeout(&self) -> Instant {
        self.deadline
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.deadline && self.end.is_none() {
            self.end = Some(PlayEnd::Silent(match (self.plays, self.has_media) {
                (false, _) => "it did not answer within 10 s",
                (true, false) => {
                    "it plays the stream, but neither picture nor sound came for 10 s: perhaps nobody publishes it there"
                }
                (true, true) => "neither picture nor sound came for 10 s",
            }));
        }
    }

    /// Reads from the front of `input` until a message with media is whole; `None` when all of it is used up, or it is over.
    pub fn read(&mut self, now: Instant, input: &mut &[u8], mut media: impl FnMut(Played)) {
        while self.end.is_none() {
            match self.caller.read(input) {
                Ok(Some(Heard::Welcome)) => self.connect(),
                Ok(Some(Heard::Control(event))) => self.handle_control(event),
                Ok(Some(Heard::Message(message))) => self.handle_message(now, &message, &mut media),
                Ok(None) => return,
                Err(error) => self.fail(&error),
            }
        }
    }

    /// We want no more of it. Send what this says, then close the connection.
    pub fn say_goodbye(&mut self) {
        if self.caller.reader.media_allowed {
            let stream = vec![Amf0Value::Number(f64::from(self.stream_id))];
            self.caller.writer.command("deleteStream", DELETE_STREAM, Amf0Value::Null, stream, 0);
        }
    }

    fn connect(&mut self) {
        let mut properties = HashMap::from([
            ("app".to_owned(), text(&self.url.application)),
            ("flashVer".to_owned(), text(FLASH_VERSION)),
            ("tcUrl".to_owned(), text(&self.url.tc_url())),
            ("fpad".to_owned(), Amf0Value::Boolean(false)),
            ("capabilities".to_owned(), Amf0Value::Number(15.0)),
            // Whatever there was before Enhanced RTMP (section 7.2.1.1): what is of no use here is told when it comes.
            ("audioCodecs".to_owned(), Amf0Value::Number(4_071.0)),
            ("videoCodecs".to_owned(), Amf0Value::Number(252.0)),
            ("videoFunction".to_owned(), Amf0Value::Number(1.0)),
        ]);
        enhanced::announce_player(&mut properties);
        self.caller.writer.command("connect", CONNECT, Amf0Value::Object(properties), Vec::new(), 0);
    }

    fn handle_control(&mut self, event: u16) {
        const STREAM_EOF: u16 = 1;
        if event == STREAM_EOF && self.plays {
            self.over("it says that the stream is over");
        }
    }

    fn handle_message(&mut self, now: Instant, message: &Message, media: &mut impl FnMut(Played)) {
        match message.kind {
            kind::VIDEO | kind::AUDIO => self.handle_media(now, message, media),
            kind::AGGREGATE => self.handle_aggregate(now, message, media),
            kind::COMMAND_AMF0 => self.handle_command(now, &message.payload),
            // In AMF3 command messages the values are AMF0 behind a zero byte.
            kind::COMMAND_AMF3 => {
                let body = message.payload.strip_prefix(&[0]).unwrap_or(&message.payload);
                self.handle_command(now, body);
            }
            // `onMetaData` and the like: what it says is in the bitstream too, and there it is true.
            _ => {}
        }
    }

    fn handle_media(&mut self, now: Instant, message: &Message, media: &mut impl FnMut(Played)) {
        // Some servers send empty ones to keep a connection open: nothing comes all the same.
        if self.caller.reader.media_allowed && !message.payload.is_empty() {
            (self.plays, self.has_media) = (true, true);
            self.deadline = now + SILENCE_MAX;
            let (is_video, time_ms) = (message.kind == kind::VIDEO, message.timestamp_ms);
            media(Played { is_video, time_ms, body: message.payload.clone() });
        }
    }

    fn handle_aggregate(&mut self, now: Instant, aggregate: &Message, media: &mut impl FnMut(Played)) {
        for message in messages_of(aggregate) {
            match message {
                Ok(message) => self.handle_media(now, &message, media),
                Err(error) => self.fail(&error.to_string()),
            }
        }
    }

    fn handle_command(&mut self, now: Instant, body: &[u8]) {
        let values = match amf::read_all(body) {
            Ok(values) => values,
            Err(error) => return self.fail(&format!("a command that cannot be read: {error}")),
        };
        let (Some(Amf0Value::Utf8String(name)), Some(Amf0Value::Number(transaction))) = (values.first(), values.get(1))
        else {
            return;
        };
        match name.as_str() {
            "_result" if *transaction == CONNECT => {
                if let Some(Amf0Value::Object(properties)) = values.get(2)
                    && let Some(Amf0Value::Utf8String(version)) = properties.get("fmsVer")
                {
                    let letters = version.chars().filter(|letter| !letter.is_control());
                    self.server_name = letters.take(SERVER_NAME_MAX_LETTERS).collect();
                }
                self.caller.writer.command("createStream", CREATE_STREAM, Amf0Value::Null, Vec::new(), 0);
            }
            "_result" if *transaction == CREATE_STREAM => {
                let Some(Amf0Value::Number(id)) = values.get(3) else { return self.fail("it created no stream") };
                self.play(*id as u32);
            }
            "_error" => self.refused(&values),
            "onStatus" => self.handle_status(now, &values),
            "close" => self.over("it closed the connection"),
            _ => {}
        }
    }

    fn play(&mut self, stream_id: u32) {
        self.stream_id = stream_id;
        self.caller.reader.media_allowed = true;
        let arguments = vec![text(&self.url.key), Amf0Value::Number(LIVE_OR_RECORDED)];
        self.caller.writer.command("play", PLAY, Amf0Value::Null, arguments, stream_id);
        self.caller.set_buffer(stream_id, BUFFER_MS);
    }

    fn handle_status(&mut self, now: Instant, values: &[Amf0Value]) {
        let is_error = information(values, "level") == Some("error");
        match information(values, "code").unwrap_or_default() {
            "NetStream.Play.Start" if !self.plays && self.caller.reader.media_allowed => {
                (self.plays, self.deadline) = (true, now + SILENCE_MAX);
            }
            "NetStream.Play.UnpublishNotify" | "NetStream.Play.Stop" | "NetStream.Play.Complete" => {
                self.over("its publisher has left");
            }
            "NetStream.Play.StreamNotFound" => self.refused(values),
            "NetConnection.Connect.ReconnectRequest" => self.over("it asks for another connection"),
            "NetConnection.Connect.Closed" | "NetConnection.Connect.AppShutdown" => {
                self.over("it closes the connection")
            }
            _ if is_error => self.refused(values),
            _ => {}
        }
    }

    fn refused(&mut self, values: &[Amf0Value]) {
        let code = information(values, "code").unwrap_or("no code");
        let reason = information(values, "description").unwrap_or("no description");
        self.fail(&format!("it refuses: {code}: {reason}"));
    }

    fn over(&mut self, reason: &str) {
        self.end.get_or_insert_with(|| PlayEnd::Over(reason.to_owned()));
    }

    fn fail(&mut self, reason: &str) {
        // It may repeat the key, or a part.
        let told = without_secrets(reason, self.url.secrets());
        let letters = told.chars().filter(|letter| !letter.is_control()).take(REASON_MAX_LETTERS);
        self.end.get_or_insert_with(|| PlayEnd::Failed(letters.collect()));
    }
}

fn text(text: &str) -> Amf0Value {
    Amf0Value::Utf8String(text.to_owned())
}
