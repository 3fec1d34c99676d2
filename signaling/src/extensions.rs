//! The resources of WHEP's extensions below a session: `/events`, `/events/{id}` and `/layer` (WHEP extensions draft).
//!
//! Whoever may speak to the session may speak to them; they end with it.

use std::sync::Arc;

use crate::{
    endpoint::{Call, Refused, no_session, not_allowed},
    error::Problem,
    events::{EventStreamId, EventType, wanted},
    http::{JSON_TYPE, Method, Response},
    layers::selection,
    media_plane::{Direction, WatchedSession},
    name::{SessionId, StreamName},
};
/// The media type of an event stream.
pub const EVENT_STREAM_TYPE: &str = "text/event-stream";

const EVENTS_REL: &str = "urn:ietf:params:whep:ext:core:server-sent-events";
const LAYER_REL: &str = "urn:ietf:params:whep:ext:core:layer";

const EVENTS_METHODS: &str = "POST, OPTIONS";
const EVENT_STREAM_METHODS: &str = "GET, HEAD, DELETE, OPTIONS";
const LAYER_METHODS: &str = "POST, OPTIONS";

/// What a URL below a session's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// `/events`: POST makes an event stream.
    Events,
    /// `/events/{id}`: GET reads it, DELETE ends it.
    EventStream(&'a str),
    /// `/layer`: POST selects one.
    Layer,
}

impl Call<'_> {
    /// Advertises the extensions (draft-ietf-wish-whep, "Protocol Extensions").
    pub(crate) fn with_extensions(&self, response: Response, stream: &StreamName, session: SessionId) -> Response {
        if self.door.direction != Direction::Egress {
            return response;
        }
        let events = self.resource_url(stream, session, "/events");
        let layer = self.resource_url(stream, session, "/layer");
        response
            .header("Link", format!("<{events}>; rel=\"{EVENTS_REL}\"; events=\"{}\"", EventType::names()))
            .header("Link", format!("<{layer}>; rel=\"{LAYER_REL}\""))
    }

    pub(crate) fn extension(
        &self,
        stream: &StreamName,
        session: &str,
        resource: Resource<'_>,
    ) -> Result<Response, Refused> {
        let methods = match resource {
            Resource::Events => EVENTS_METHODS,
            Resource::EventStream(_) => EVENT_STREAM_METHODS,
            Resource::Layer => LAYER_METHODS,
        };
        match (resource, self.request.method) {
            (Resource::EventStream(_), Method::Options) => Ok(Response::new(200).header("Allow", methods)),
            (_, Method::Options) => Ok(Response::new(200).header("Allow", methods).header("Accept-Post", JSON_TYPE)),
            (Resource::Events, Method::Post) => self.create_event_stream(stream, session),
            (Resource::EventStream(id), Method::Get | Method::Head) => self.read_events(stream, session, id),
            (Resource::EventStream(id), Method::Delete) => self.end_events(stream, session, id),
            (Resource::Layer, Method::Post) => self.select_layer(stream, session),
            _ => Err(not_allowed(methods)),
        }
    }

    /// 201 with the event stream's URL.
    fn create_event_stream(&self, stream: &StreamName, session: &str) -> Result<Response, Refused> {
        let (session, watched) = self.watched(stream, session)?;
        let body = if self.request.body.is_empty() { "" } else { self.body(JSON_TYPE, "Accept-Post")? };
        let id = watched.event_streams().create(wanted(body.as_bytes())?)?;
        let url = self.resource_url(stream, session, &format!("/events/{id}"));
        Ok(Response::new(201).header("Location", url).of_session(session))
    }

    /// 200; whoever speaks HTTP writes the events into the body.
    fn read_events(&self, stream: &StreamName, session: &str, id: &str) -> Result<Response, Refused> {
        let (session, watched) = self.watched(stream, session)?;
        let id = EventStreamId::parse(id).filter(|id| watched.event_streams().has(*id)).ok_or_else(no_events)?;
        let mut response = Response::new(200)
            .header("Content-Type", EVENT_STREAM_TYPE)
            .header("Cache-Control", "no-store")
            .of_session(session);
        response.events = (self.request.method == Method::Get).then_some(id);
        Ok(response)
    }

    fn end_events(&self, stream: &StreamName, session: &str, id: &str) -> Result<Response, Refused> {
        let (session, watched) = self.watched(stream, session)?;
        match EventStreamId::parse(id).filter(|id| watched.event_streams().remove(*id)) {
            Some(_) => Ok(Response::new(200).of_session(session)),
            None => Err(no_events().into()),
        }
    }

    fn select_layer(&self, stream: &StreamName, session: &str) -> Result<Response, Refused> {
        let (session, _) = self.watched(stream, session)?;
        let body = self.body(JSON_TYPE, "Accept-Post")?;
        let choice = selection(body.as_bytes(), &self.plane.layers(session))?;
        self.plane.select_layer(session, choice)?;
        Ok(Response::new(200).of_session(session))
    }

    /// The session, when it is one of a viewer's that has begun.
    fn watched(&self, stream: &StreamName, session: &str) -> Result<(SessionId, Arc<dyn WatchedSession>), Refused> {
        let (session, _) = self.find(stream, session)?;
        if self.plane.offered(session).is_some() {
            let detail = "the session waits for the answer to its offer: PATCH that first, as application/sdp";
            return Err(Problem::new(409, "not-answered", "The offer is not answered yet", detail).into());
        }
        let watched = self.plane.watched(session).ok_or_else(no_session)?;
        Ok((session, watched))
    }
}

fn no_events() -> Problem {
    Problem::new(404, "no-event-stream", "There is no such event stream", "it was ended, or never was: POST to /events")
}
