//! The commands of a connection (RTMP 1.0 section 7.2): connect, createStream, publish and what encoders send around them.

use std::{collections::HashMap, time::Instant};

use rml_rtmp::rml_amf0::Amf0Value;
use sluice_signaling::{
    priority::Priority,
    token::{Presenter, Right},
};
use tracing::{Span, debug, info};

use super::{
    ending::Ending,
    enhanced,
    key::{Application, Asked},
    media::Media,
    reply::{Level, information},
    session::Session,
};
use crate::{
    metrics::ReasonLabel,
    rtmp::amf,
    track::{Protocol, PublisherInfo},
};

/// Streams a connection may create; encoders create one, or one again after `deleteStream`.
const STREAMS_MAX: u32 = 64;
/// Bytes kept of what the peer calls itself.
const USER_AGENT_MAX_BYTES: usize = 128;

/// A command message, read.
struct Command {
    name: String,
    transaction_id: f64,
    /// The command object, then the arguments.
    values: Vec<Amf0Value>,
}

impl Command {
    fn read(body: &[u8]) -> Result<Option<Self>, amf::BadAmf> {
        let mut values = amf::read_all(body)?.into_iter();
        let (Some(Amf0Value::Utf8String(name)), Some(Amf0Value::Number(transaction_id))) =
            (values.next(), values.next())
        else {
            return Ok(None);
        };
        Ok(Some(Self { name, transaction_id, values: values.collect() }))
    }

    fn text(&self, at: usize) -> Option<&str> {
        match self.values.get(at) {
            Some(Amf0Value::Utf8String(text)) => Some(text),
            _ => None,
        }
    }

    /// Of a stream; 0 where there is none.
    fn number(&self, at: usize) -> u32 {
        match self.values.get(at) {
            Some(Amf0Value::Number(number)) => *number as u32,
            _ => 0,
        }
    }

    fn property(&self, name: &str) -> Option<&str> {
        match self.values.first() {
            Some(Amf0Value::Object(properties)) => match properties.get(name) {
                Some(Amf0Value::Utf8String(text)) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Session {
    pub(super) fn handle_command(&mut self, now: Instant, stream_id: u32, body: &[u8]) {
        let command = match Command::read(body) {
            Ok(Some(command)) => command,
            Ok(None) => return self.end(Ending::Failed("a command without name and transaction".into())),
            Err(error) => return self.end(Ending::Failed(format!("a command that cannot be read: {error}"))),
        };
        match command.name.as_str() {
            "connect" => self.connect(&command),
            "createStream" => self.create_stream(&command),
            "publish" => self.publish(now, stream_id, &command),
            "play" | "play2" => self.refuse_play(stream_id),
            // Encoders announce a stream before they publish it, and some wait for the answer.
            "FCPublish" => {
                self.succeed(&command);
                let status = information(Level::Status, "NetStream.Publish.Start", "");
                self.replies.command("onFCPublish", 0.0, Amf0Value::Null, vec![Amf0Value::Object(status)], 0);
            }
            "releaseStream" => self.succeed(&command),
            "FCUnpublish" => {
                self.succeed(&command);
                if self.is_published_as(command.text(1).unwrap_or_default()) {
                    self.unpublish(now, stream_id);
                }
            }
            "deleteStream" if self.publishes_on(command.number(1)) => self.unpublish(now, stream_id),
            "closeStream" if self.publishes_on(stream_id) => self.unpublish(now, stream_id),
            // Bandwidth checks, stream lengths and the like: nobody waits for them.
            other => debug!(command = other.get(..64).unwrap_or(other), "command ignored"),
        }
    }

    fn succeed(&mut self, command: &Command) {
        self.replies.result(Level::Status, command.transaction_id, Amf0Value::Null, Amf0Value::Undefined);
    }

    fn connect(&mut self, command: &Command) {
        if self.application.is_some() {
            return self.end(Ending::Failed("connect was sent twice".into()));
        }
        let app = command.property("app").unwrap_or_default();
        self.application = Some(Application::new(app, command.property("tcUrl").unwrap_or_default()));
        let agent = command.property("flashVer").unwrap_or_default().chars().filter(|c| !c.is_control());
        for letter in agent {
            if self.user_agent.len() + letter.len_utf8() > USER_AGENT_MAX_BYTES {
                break;
            }
            self.user_agent.push(letter);
        }
        self.replies.welcome();
        let text = |text: &str| Amf0Value::Utf8String(text.to_owned());
        self.enhanced = enhanced::Peer::of(command.values.first());
        let mut properties = HashMap::from([
            ("fmsVer".to_owned(), text("FMS/3,0,1,123")),
            ("capabilities".to_owned(), Amf0Value::Number(31.0)),
        ]);
        enhanced::announce(&mut properties);
        let mut status = information(Level::Status, "NetConnection.Connect.Success", "Connection succeeded.");
        status.insert("objectEncoding".to_owned(), Amf0Value::Number(0.0));
        // Clients differ in which of the two objects they look into.
        enhanced::announce(&mut status);
        self.replies.result(
            Level::Status,
            command.transaction_id,
            Amf0Value::Object(properties),
            Amf0Value::Object(status),
        );
    }

    fn create_stream(&mut self, command: &Command) {
        if self.streams_created == STREAMS_MAX {
            return self.end(Ending::Failed(format!("more than {STREAMS_MAX} streams created")));
        }
        self.streams_created += 1;
        let id = Amf0Value::Number(f64::from(self.streams_created));
        self.replies.result(Level::Status, command.transaction_id, Amf0Value::Null, id);
    }

    fn publish(&mut self, now: Instant, stream_id: u32, command: &Command) {
        const DENIED: &str = "NetStream.Publish.Denied";
        const BAD_NAME: &str = "NetStream.Publish.BadName";
        let Some(application) = self.application.clone() else {
            return self.deny(stream_id, DENIED, "publish came before connect");
        };
        if self.is_publishing() {
            return self.deny(stream_id, DENIED, "this connection publishes already: open another for another stream");
        }
        // The value at 0 is the command object, null here.
        let key = command.text(1).unwrap_or_default();
        let Asked { name, token, priority } = match application.stream(key) {
            Ok(asked) => asked,
            Err(error) => return self.deny(stream_id, BAD_NAME, &format!("the stream key is not usable: {error}")),
        };
        Span::current().record("stream", name.as_str());
        let presenter = Presenter { token: token.as_deref(), ip: self.peer.ip(), origin: None };
        let time_of_day = self.time_of_day(now);
        let authenticator = &self.context.authenticator;
        let grant = match authenticator.authorise(&presenter, Right::Publish, &name, time_of_day) {
            Ok(grant) => grant,
            Err(denied) => {
                self.context.metrics.auth_failures.get_or_create(&ReasonLabel { reason: denied.reason() }).inc();
                return self.deny(stream_id, DENIED, denied.detail());
            }
        };
        let priority = match Priority::of(grant.priority, priority.as_deref()) {
            Ok(priority) => priority,
            Err(unknown) => return self.deny(stream_id, DENIED, &unknown.to_string()),
        };
        let info = PublisherInfo {
            session: self.id,
            protocol: Protocol::Rtmp,
            priority,
            remote: self.peer,
            user_agent: self.user_agent.clone(),
            subject: grant.subject,
        };
        let control = self.control.clone();
        let on_conflict = self.context.on_conflict;
        let publication = match self.context.streams.publish(&name, info, control, on_conflict, time_of_day) {
            Ok(publication) => publication,
            Err(busy) => return self.deny(stream_id, BAD_NAME, &busy.to_string()),
        };
        info!(application = application.name, user_agent = self.user_agent, %priority, "publishing");
        let media = Media::new(publication, self.begin, self.context.reencodes);
        self.replies.stream_begins(stream_id);
        self.replies.status(stream_id, Level::Status, "NetStream.Publish.Start", &format!("{name} is published."));
        self.start_publishing(now, (stream_id, name), media, grant.expires);
    }

    fn deny(&mut self, stream_id: u32, code: &str, reason: &str) {
        self.replies.status(stream_id, Level::Error, code, reason);
        self.end(Ending::Denied(reason.to_owned()));
    }

    fn refuse_play(&mut self, stream_id: u32) {
        let reason = "this server does not play over RTMP: watch the stream by WHEP, or on its page /watch/{stream}";
        self.deny(stream_id, "NetStream.Play.Failed", reason);
    }

    /// What is published may be called so. Encoders write the key with its query, without, or something else: only what names another stream
    /// means another.
    fn is_published_as(&self, key: &str) -> bool {
        let asked = self.application.as_ref().and_then(|application| application.stream(key).ok());
        asked.is_none_or(|asked| self.publishing_name() == Some(&asked.name))
    }

    fn unpublish(&mut self, now: Instant, stream_id: u32) {
        if self.is_publishing() {
            info!("unpublished");
            self.stop_publishing(now);
            self.replies.status(stream_id, Level::Status, "NetStream.Unpublish.Success", "The stream is off.");
        }
    }
}
