//! The publishing end of an RTMP connection (RTMP 1.0 section 7.2), as encoders have it.
//!
//! # The driver's contract
//! Hand every byte that arrives to [`PublishClient::handle_bytes`], and call [`PublishClient::handle_timeout`] at
//! [`PublishClient::poll_timeout`]. After each call send what [`PublishClient::take_output`] gives. From
//! [`PublishState::Live`] on, [`PublishClient::send`] takes media; after [`PublishState::Failed`] close the connection.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rml_rtmp::rml_amf0::Amf0Value;

use super::Outgoing;
use crate::{
    config::{RtmpUrl, without_secrets},
    rtmp::{Caller, Heard, Message, amf, information, kind},
};

/// From the connection until it is live.
const BEGIN_DEADLINE: Duration = Duration::from_secs(10);
/// What it calls itself. Some servers look for the form of Flash Media Live Encoder.
const FLASH_VERSION: &str = "FMLE/3.0 (compatible; Sluice)";
/// Letters kept of what the other side says.
const REASON_MAX_LETTERS: usize = 200;

/// Transactions.
const CONNECT: f64 = 1.0;
const RELEASE_STREAM: f64 = 2.0;
const FC_PUBLISH: f64 = 3.0;
const CREATE_STREAM: f64 = 4.0;
const PUBLISH: f64 = 5.0;
const FC_UNPUBLISH: f64 = 6.0;
const DELETE_STREAM: f64 = 7.0;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishState {
    Beginning,
    Live,
    /// Why it is over, in words.
    Failed(String),
}

/// See the module.
pub struct PublishClient {
    url: RtmpUrl,
    caller: Caller,
    state: PublishState,
    deadline: Option<Instant>,
    stream_id: u32,
}

impl PublishClient {
    pub fn new(url: RtmpUrl, now: Instant) -> Self {
        let (caller, deadline) = (Caller::default(), Some(now + BEGIN_DEADLINE));
        Self { url, caller, state: PublishState::Beginning, deadline, stream_id: 0 }
    }

    pub fn state(&self) -> &PublishState {
        &self.state
    }

    /// Bytes to be sent, possibly none.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.caller.writer.take()
    }

    /// Of what [`Self::take_output`] will give.
    pub fn output_bytes(&self) -> usize {
        self.caller.writer.waiting_bytes()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.fail("it did not answer within 10 s");
        }
    }

    /// Bytes came in.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        while !matches!(self.state, PublishState::Failed(_)) {
            match self.caller.read(&mut input) {
                Ok(Some(Heard::Welcome)) => self.connect(),
                Ok(Some(Heard::Message(message))) => self.handle_message(&message),
                Ok(Some(Heard::Control(_))) => {}
                Ok(None) => return,
                Err(error) => self.fail(&error),
            }
        }
    }

    /// Pictures or sound, once it is live.
    pub fn send(&mut self, outgoing: Outgoing) {
        if self.state == PublishState::Live {
            let Outgoing { kind, time_ms, body } = outgoing;
            self.caller.writer.media(kind, time_ms, self.stream_id, body);
        }
    }

    /// The stream ends. Send what this says, then close the connection.
    pub fn say_goodbye(&mut self) {
        if self.state == PublishState::Live {
            let key = text(&self.url.key);
            self.caller.writer.command("FCUnpublish", FC_UNPUBLISH, Amf0Value::Null, vec![key], 0);
            let stream = Amf0Value::Number(f64::from(self.stream_id));
            self.caller.writer.command("deleteStream", DELETE_STREAM, Amf0Value::Null, vec![stream], 0);
        }
    }

    fn connect(&mut self) {
        let properties = HashMap::from([
            ("app".to_owned(), text(&self.url.application)),
            ("type".to_owned(), text("nonprivate")),
            ("flashVer".to_owned(), text(FLASH_VERSION)),
            ("tcUrl".to_owned(), text(&self.url.tc_url())),
        ]);
        self.caller.writer.command("connect", CONNECT, Amf0Value::Object(properties), Vec::new(), 0);
    }

    fn handle_message(&mut self, message: &Message) {
        if message.kind == kind::COMMAND_AMF0 {
            match amf::read_all(&message.payload) {
                Ok(values) => self.handle_command(&values),
                Err(error) => self.fail(&error.to_string()),
            }
        }
    }

    fn handle_command(&mut self, values: &[Amf0Value]) {
        let (Some(Amf0Value::Utf8String(name)), Some(Amf0Value::Number(transaction))) = (values.first(), values.get(1))
        else {
            return;
        };
        match name.as_str() {
            "_result" if *transaction == CONNECT => {
                let key = || text(&self.url.key);
                self.caller.writer.command("releaseStream", RELEASE_STREAM, Amf0Value::Null, vec![key()], 0);
                self.caller.writer.command("FCPublish", FC_PUBLISH, Amf0Value::Null, vec![key()], 0);
                self.caller.writer.command("createStream", CREATE_STREAM, Amf0Value::Null, Vec::new(), 0);
            }
            "_result" if *transaction == CREATE_STREAM => {
                let Some(Amf0Value::Number(id)) = values.get(3) else {
                    return self.fail("it created no stream");
                };
                self.stream_id = *id as u32;
                let arguments = vec![text(&self.url.key), text("live")];
                self.caller.writer.command("publish", PUBLISH, Amf0Value::Null, arguments, self.stream_id);
            }
            "_error" if *transaction == CONNECT || *transaction == CREATE_STREAM => self.refused(values),
            "onStatus" => match information(values, "code") {
                Some("NetStream.Publish.Start") => {
                    (self.state, self.deadline) = (PublishState::Live, None);
                }
                _ if information(values, "level") == Some("error") => self.refused(values),
                _ => {}
            },
            "close" => self.fail("it closed the connection"),
            _ => {}
        }
    }

    fn refused(&mut self, values: &[Amf0Value]) {
        let code = information(values, "code").unwrap_or("no code");
        let reason = information(values, "description").unwrap_or("no description");
        // It may repeat the key, or a part.
        let told = without_secrets(&format!("it refuses: {code}: {reason}"), self.url.secrets());
        self.fail(&told);
    }

    fn fail(&mut self, reason: &str) {
        if !matches!(self.state, PublishState::Failed(_)) {
            let letters = reason.chars().filter(|letter| !letter.is_control()).take(REASON_MAX_LETTERS);
            (self.state, self.deadline) = (PublishState::Failed(letters.collect()), None);
        }
    }
}

fn text(text: &str) -> Amf0Value {
    Amf0Value::Utf8String(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    #[test]
    fn the_key_its_name_and_a_token_in_it_are_told_to_nobody() {
        for repeated in ["cam1?token=abcd.efgh&x=1", "cam1", "abcd.efgh"] {
            let url = "rtmp://far.example.net/live/cam1?token=abcd.efgh&x=1".parse().unwrap();
            let mut client = PublishClient::new(url, epoch());
            let description = format!("{repeated} may not be published");
            let information = HashMap::from([("description".to_owned(), text(&description))]);
            client.refused(&[Amf0Value::Object(information)]);
            let told = "it refuses: no code: … may not be published";
            assert_eq!(client.state(), &PublishState::Failed(told.into()), "{repeated}");
        }
    }
}
