//! What WHIP and WHEP have in common: the methods on an endpoint and on its sessions. What they do not is a [`Door`] each:
//! [`WHIP`](crate::whip::WHIP) and [`WHEP`](crate::whep::WHEP).
//!
//! The order of the checks is the order in which they may say something: the path, the token, the body's size and type, its
//! content. Nothing of a body is parsed for somebody who may not send it.

use std::time::SystemTime;

use crate::{
    codec::MediaKind,
    error::Problem,
    http::{BODY_MAX_BYTES, FRAGMENT_TYPE, Method, Request, Response, SDP_TYPE},
    ice::entity_tag,
    ice_server::IceServers,
    media_plane::{Direction, MediaPlane, OpenRequest},
    name::{SessionId, StreamName},
    priority::Priority,
    redirect::NodeUrl,
    sdp::{MediaOffer, Negotiated, OfferError, answer},
    token::{Authenticator, Denied, Grant, Presenter, Right},
};

/// Letters of a user agent that are kept: they end up in the log and the API.
const USER_AGENT_MAX_LETTERS: usize = 256;

/// What an operator may set about signalling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What a viewer of a stream that is not live is told to wait before it asks again, in seconds. Longer means fewer
    /// requests by waiting viewers, shorter a sooner picture.
    pub not_live_retry_after_s: u32,
    /// A viewer of a stream that is not live gets a session that waits for it, instead of being told to come again.
    pub wait_until_live: bool,
    /// STUN and TURN servers that clients are told of.
    pub ice_servers: IceServers,
    /// The node that newcomers are sent to while this one is full or stopping.
    pub overflow_to: Option<NodeUrl>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            not_live_retry_after_s: 2,
            wait_until_live: false,
            ice_servers: IceServers::default(),
            overflow_to: None,
        }
    }
}

/// Where the two protocols differ.
#[derive(Debug)]
pub struct Door {
    /// The path before the stream, without a slash at its end.
    pub prefix: &'static str,
    pub direction: Direction,
    pub right: Right,
    /// An endpoint answers GET and HEAD with its type (draft-ietf-wish-whep, URL discoverability), or with nothing.
    pub(crate) discoverable: bool,
    pub(crate) negotiate: fn(&Call<'_>, &StreamName, &MediaOffer) -> Result<Negotiated, Problem>,
}

impl Door {
    /// Answers a request on `{prefix}/{stream}` or `{prefix}/{stream}/{session}`:
    ///
    /// - POST: 201 with the answer; 400, 401, 403, 406 (WHEP: no codec of the stream offered; with an offer of ours), 409 (WHIP,
    ///   from the plane: the stream has a publisher; WHEP: not live, with `Retry-After`), 413, 415, 422, 503 (from the plane).
    /// - PATCH: 204 for candidates, 200 with a fragment of ours for an ICE restart; 204 for the answer to an offer of ours; 400, 401, 403, 404, 409 (credentials of an
    ///   earlier ICE session), 412, 413, 415, 428.
    /// - DELETE: 200, then 404.
    /// - Below a session of WHEP's: see [`Resource`](crate::extensions::Resource).
    /// - OPTIONS: 200, with the ICE servers for whoever may open the session, or speak to it.
    /// - GET, HEAD: 204; 200 with the type on a WHEP endpoint; HEAD there 503 while no session can be made.
    ///
    /// Every failure has a [`Problem`] for a body.
    pub fn answer(
        &self,
        request: &Request<'_>,
        authenticator: &Authenticator,
        plane: &dyn MediaPlane,
        settings: &Settings,
        now: SystemTime,
    ) -> Response {
        let call = Call { door: self, request, authenticator, plane, settings, now };
        call.route().unwrap_or_else(|refused| *refused)
    }
}

/// One request and all that is needed to answer it.
pub(crate) struct Call<'a> {
    pub door: &'a Door,
    pub request: &'a Request<'a>,
    authenticator: &'a Authenticator,
    pub plane: &'a dyn MediaPlane,
    pub settings: &'a Settings,
    now: SystemTime,
}

/// A refusal that is already a response; boxed, for it is large and rare.
pub(crate) type Refused = Box<Response>;

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Box::new(problem.into())
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Box::new(denied.into())
    }
}

const ENDPOINT_METHODS: &str = "POST, GET, HEAD, OPTIONS";
const SESSION_METHODS: &str = "PATCH, DELETE, GET, HEAD, OPTIONS";

impl Call<'_> {
    fn route(&self) -> Result<Response, Refused> {
        let stream: StreamName = self.request.stream.parse().map_err(|error| {
            Problem::new(400, "bad-stream-name", "This is no stream name", format!("{}: {error}", self.door.prefix))
        })?;
        if let (Some(session), Some(resource)) = (self.request.session, self.request.resource) {
            return self.extension(&stream, session, resource);
        }
        match (self.request.session, self.request.method) {
            (None, Method::Options) => Ok(self.describe(&stream)),
            (None, Method::Post) => self.open(&stream),
            (None, Method::Get | Method::Head) => Ok(self.discover()?),
            (None, _) => Err(not_allowed(ENDPOINT_METHODS)),
            (Some(session), Method::Options) => Ok(self.describe_session(&stream, session)),
            (Some(session), Method::Patch) => self.patch(&stream, session),
            (Some(session), Method::Delete) => self.close(&stream, session),
            (Some(session), Method::Get | Method::Head) => {
                let (session, _) = self.find(&stream, session)?;
                Ok(Response::new(204).header("Cache-Control", "no-store").of_session(session))
            }
            (Some(_), Method::Post | Method::Other) => Err(not_allowed(SESSION_METHODS)),
        }
    }

    fn authorise(&self, stream: &StreamName) -> Result<Grant, Denied> {
        let request = self.request;
        let presenter = Presenter::new(request.authorization, request.query_token, request.from.ip(), request.origin);
        self.authenticator.authorise(&presenter, self.door.right, stream, self.now)
    }

    /// GET and HEAD on an endpoint: a success without content (RFC 9725 section 4.1). It tells nothing about the stream, so it needs no token.
    ///
    /// HEAD is 503 while no session can be made: so a client whose session has just ended learns whether that was meant for it, or for
    /// everybody because the server stops.
    fn discover(&self) -> Result<Response, Problem> {
        let refused = if self.request.method == Method::Head { self.plane.unavailable() } else { None };
        refused.map_or(Ok(()), Err)?;
        let described = self.door.discoverable;
        Ok(if described { Response::new(200).header("Content-Type", SDP_TYPE) } else { Response::new(204) })
    }

    /// OPTIONS on an endpoint (RFC 9725 section 4.2). Clients that must know the ICE servers before they make an offer ask for them so
    /// (section 4.6): whoever may open a session is told, but in a preflight, which carries no token and is answered by habit.
    fn describe(&self, stream: &StreamName) -> Response {
        let response = Response::new(200).header("Allow", ENDPOINT_METHODS).header("Accept-Post", SDP_TYPE);
        match self.authorise(stream) {
            Ok(grant) if !self.request.is_preflight => self.with_ice_servers(response, &grant),
            _ => response,
        }
    }

    /// OPTIONS on a session. TURN credentials are good for a time, and a client that restarts ICE after that needs others before it gathers
    /// candidates: whoever may speak to the session is told, but in a preflight.
    fn describe_session(&self, stream: &StreamName, session: &str) -> Response {
        let response = Response::new(200)
            .header("Allow", SESSION_METHODS)
            .header("Accept-Post", SDP_TYPE)
            .header("Accept-Patch", FRAGMENT_TYPE);
        if self.request.is_preflight {
            return response;
        }
        match self.find(stream, session) {
            Ok((session, grant)) => self.with_ice_servers(response, &grant).of_session(session),
            Err(_) => response,
        }
    }

    /// Adds a `Link` per configured STUN or TURN server (RFC 9725 section 4.6). What is in it is this client's: no cache keeps it.
    pub(crate) fn with_ice_servers(&self, response: Response, grant: &Grant) -> Response {
        let links = self.settings.ice_servers.links(grant, self.now);
        let response = if links.is_empty() { response } else { response.header("Cache-Control", "no-store") };
        links.into_iter().fold(response, |response, link| response.header("Link", link))
    }

    /// POST on an endpoint (RFC 9725 section 4.2).
    fn open(&self, stream: &StreamName) -> Result<Response, Refused> {
        let grant = self.authorise(stream)?;
        if let Some(why) = self.plane.unavailable() {
            return Err(self.elsewhere(stream, why));
        }
        let priority = Priority::of(grant.priority, self.request.query_priority).map_err(Problem::from)?;
        let offer = self.body(SDP_TYPE, "Accept-Post")?;
        let offer = MediaOffer::parse(offer).map_err(|error| error.problem())?;
        let media = match (self.door.negotiate)(self, stream, &offer) {
            Err(problem) if problem.status == 406 => return Ok(self.counter_offer(stream, grant, &offer, problem)?),
            negotiated => negotiated?,
        };
        let opened = self.plane.open(OpenRequest {
            direction: self.door.direction,
            stream: stream.clone(),
            grant: grant.clone(),
            priority,
            from: self.request.from,
            user_agent: self.user_agent(),
            remote_ice: offer.ice.clone(),
            remote_fingerprints: offer.fingerprints.clone(),
            remote_setup: offer.setup,
            remote_candidates: offer.candidates.clone(),
            media: media.clone(),
            video_line: offer.line_of(MediaKind::Video),
        });
        let params = opened.map_err(|why| match why.status {
            // The last place was taken meanwhile.
            503 => self.elsewhere(stream, why),
            _ => why.into(),
        })?;
        let mut response = Response::new(201)
            .header("Content-Type", SDP_TYPE)
            .header("Location", self.session_url(stream, params.session))
            .header("ETag", entity_tag(&params.ice))
            .header("Accept-Patch", FRAGMENT_TYPE)
            .of_session(params.session);
        response = self.with_ice_servers(response, &grant);
        response = self.with_extensions(response, stream, params.session);
        response.body = answer(&offer, self.door.direction, &media, &params).into_bytes();
        Ok(response)
    }

    /// PATCH on a session: the answer to an offer of ours, or what ICE has to say.
    fn patch(&self, stream: &StreamName, session: &str) -> Result<Response, Refused> {
        let (session, grant) = self.find(stream, session)?;
        match self.plane.offered(session) {
            Some(offered) => self.take_answer(session, stream, &offered),
            None => self.patch_ice(session, &grant),
        }
    }

    /// The path of a session's URL. A client that showed its token in the endpoint's URL can show it nowhere else, so the session's
    /// URL has it too (draft-ietf-wish-whep and RFC 9725 leave the form of that URL to us).
    pub(crate) fn session_url(&self, stream: &StreamName, session: SessionId) -> String {
        self.resource_url(stream, session, "")
    }

    /// Of what is below the session, likewise; `below` begins with a slash.
    pub(crate) fn resource_url(&self, stream: &StreamName, session: SessionId, below: &str) -> String {
        let path = format!("{}/{stream}/{session}{below}", self.door.prefix);
        let in_header = Presenter::new(self.request.authorization, None, self.request.from.ip(), None).token.is_some();
        match self.request.query_token {
            // What was verified has the letters of base64url and dots; anything else does not go into a header.
            Some(token) if !in_header && !self.authenticator.is_open() && token.bytes().all(is_unreserved) => {
                format!("{path}?token={token}")
            }
            _ => path,
        }
    }

    /// DELETE on a session (RFC 9725 section 4.2); whatever `If-Match` says (section 4.3.1).
    fn close(&self, stream: &StreamName, session: &str) -> Result<Response, Refused> {
        let (session, _) = self.find(stream, session)?;
        if self.plane.close(session, self.door.direction) {
            Ok(Response::new(200).of_session(session))
        } else {
            Err(no_session().into())
        }
    }

    /// The session of the URL and the request's right to it, for whoever may do on its stream what it does. A token of the same subject that lasts longer
    /// than the session renews it, whatever the request is about.
    pub(crate) fn find(&self, stream: &StreamName, session: &str) -> Result<(SessionId, Grant), Refused> {
        let grant = self.authorise(stream)?;
        let session: SessionId = session.parse().map_err(|_| no_session())?;
        let owner = self.plane.owner_of(session, self.door.direction).filter(|owner| owner.stream == *stream);
        let owner = owner.ok_or_else(no_session)?;
        let longer = matches!((grant.expires, owner.expires), (Some(new), Some(old)) if new > old);
        if longer && grant.subject == owner.subject && self.request.method != Method::Delete {
            self.plane.renew(session, grant.expires);
        }
        Ok((session, grant))
    }

    /// The body as text, of the right size and type.
    pub(crate) fn body(&self, expected: &'static str, hint: &'static str) -> Result<&str, Refused> {
        if self.request.body.len() > BODY_MAX_BYTES {
            let detail = format!("the body has more than {BODY_MAX_BYTES} bytes");
            return Err(Problem::new(413, "too-large", "The body is too large", detail).into());
        }
        if !self.request.has_type(expected) {
            let got: String = self.request.content_type.unwrap_or("none").chars().take(64).collect();
            let detail = format!("the Content-Type is {got:?}, expected {expected:?}");
            let problem = Problem::new(415, "wrong-content-type", "The body has the wrong type", detail);
            return Err(Box::new(Response::from(problem).header(hint, expected)));
        }
        std::str::from_utf8(self.request.body).map_err(|error| {
            let line = self.request.body.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
            let malformed = crate::sdp::MalformedSdp { line, reason: "this is not UTF-8".into() };
            OfferError::Malformed(malformed).problem().into()
        })
    }

    pub(crate) fn user_agent(&self) -> String {
        let agent = self.request.user_agent.unwrap_or_default();
        agent.chars().filter(|letter| !letter.is_control()).take(USER_AGENT_MAX_LETTERS).collect()
    }
}

/// RFC 3986 section 2.3.
pub(crate) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

pub(crate) fn no_session() -> Problem {
    Problem::new(404, "no-session", "There is no such session", "it has ended, or never was: POST a new offer")
}

pub(crate) fn not_allowed(methods: &'static str) -> Refused {
    let detail = format!("this URL knows {methods}");
    let problem = Problem::new(405, "method-not-allowed", "The method is not allowed here", detail);
    Box::new(Response::from(problem).header("Allow", methods))
}
