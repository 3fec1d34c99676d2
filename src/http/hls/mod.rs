//! `/hls/{stream}/`: the multivariant playlist, a playlist per rendition, media (RFC 8216bis section 6.2).
//!
//! In: GET and HEAD. Out: what [`Packaging`](crate::packaging::Packaging) has, now or when it is there, with the headers that a CDN and a
//! player go by. Playlists are for those who may watch, and are checked first of all; media is for whoever knows its name, which only
//! playlists tell, so that caches may give it to everybody.

mod access;
mod directives;
mod playlist;
mod range;
mod send_media;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{ConnectInfo, Path, Request, State, rejection::PathRejection},
    http::{StatusCode, request::Parts},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use sluice_signaling::error::Problem;
use tracing::{Span, field::display};

use super::{AppState, cors, problem};
use crate::{
    egress::hls::playlist_rendition,
    media::StreamName,
    packaging::{MediaRefusal, NotPackaged, PlaylistRefusal, TooManyWaiting},
};

/// What clients are asked to wait, in seconds, where a second try may help.
const RETRY_AFTER_S: u32 = 2;

pub fn router() -> Router<AppState> {
    let preflight = async || StatusCode::NO_CONTENT;
    Router::new()
        .route("/hls/{stream}/media/{name}", get(media).options(preflight))
        .route("/hls/{stream}/{playlist}", get(any_playlist).options(preflight))
        .layer(middleware::from_fn(cors::allow_any_origin))
}

type From = ConnectInfo<SocketAddr>;
type InPath = Result<Path<(String, String)>, PathRejection>;

/// A refusal, written out.
struct Refused(Box<Response>);

impl std::convert::From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem::respond(&problem)))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

async fn any_playlist(
    State(state): State<AppState>,
    ConnectInfo(from): From,
    path: InPath,
    request: Request,
) -> Result<Response, Refused> {
    let (stream, name) = place(path)?;
    let (head, _) = request.into_parts();
    answer_playlist(&state, from, &stream, &name, &head).await
}

async fn answer_playlist(
    state: &AppState,
    from: SocketAddr,
    stream: &StreamName,
    name: &str,
    head: &Parts,
) -> Result<Response, Refused> {
    let access = access::check(state, stream, head, from.ip())?;
    let query = directives::Query::read(&head.uri)?;
    let named = match name {
        "index.m3u8" => None,
        name => Some(playlist_rendition(name).ok_or_else(nothing_there)?),
    };
    let opened = match state.packaging.open(stream) {
        Ok(_) | Err(NotPackaged::NotLive) if state.pulls.is_on_demand(stream) => {
            if let Some(comes) = state.pulls.want(stream) {
                let _place = state.packaging.waiting().enter(from.ip()).map_err(too_many_waiting)?;
                access.while_it_lasts(comes).await?;
            }
            state.packaging.open(stream)
        }
        opened => opened,
    };
    let packaged = opened.map_err(|why| not_packaged(state, stream, why))?;
    packaged.saw(access.viewer(&head.headers, from.ip()));
    let waiting = state.packaging.waiting();
    let shared = async {
        match named {
            None => {
                let reencoding = state.reencoding.as_ref();
                let rungs = || reencoding.map_or(0, |reencoding| reencoding.rungs_expected(packaged.stream()));
                packaged.multivariant(rungs, waiting, from.ip()).await
            }
            Some(rendition) => {
                let asked = directives::asked(&query, &head.headers);
                packaged.playlist(rendition, asked, query.skip, waiting, from.ip()).await
            }
        }
    };
    let shared = access.while_it_lasts(shared).await?.map_err(no_playlist)?;
    let kind = match named {
        None => playlist::Kind::Multivariant,
        Some(_) => playlist::Kind::Media { blocking: query.segment.is_some() },
    };
    Ok(playlist::respond(&shared, kind, &access, &head.headers))
}

async fn media(
    State(state): State<AppState>,
    ConnectInfo(from): From,
    path: InPath,
    request: Request,
) -> Result<Response, Refused> {
    let (stream, name) = place(path)?;
    let (head, _) = request.into_parts();
    let packaged = state.packaging.get(&stream).ok_or_else(no_media)?;
    let runs = packaged.media(&name, state.packaging.waiting(), from.ip()).await.map_err(media_refused)?;
    Ok(send_media::respond(&name, runs, &head.headers))
}

fn place(path: InPath) -> Result<(StreamName, String), Refused> {
    let Path((stream, name)) = path.map_err(|rejection| problem::bad_request(rejection.body_text()))?;
    let stream: StreamName = stream.parse().map_err(problem::invalid_stream_name)?;
    Span::current().record("stream", display(&stream));
    Ok((stream, name))
}

fn nothing_there() -> Problem {
    problem::not_found("a stream has index.m3u8, and what that names")
}

fn no_media() -> Problem {
    problem::not_found("there is no such media (any more): ask for the playlist")
}

/// 404, not WHEP's 409: players and caches know it, and try again.
fn not_packaged(state: &AppState, stream: &StreamName, why: NotPackaged) -> Problem {
    match why {
        NotPackaged::Disabled => problem::not_found(why.to_string()),
        NotPackaged::NotLive => {
            let nobody = || format!("nobody publishes {stream} at present; try again when it is live");
            let detail = state.pulls.why_not_live(stream).unwrap_or_else(nobody);
            Problem::new(404, "not-live", "The stream is not live", detail).retry_after(RETRY_AFTER_S)
        }
        NotPackaged::Full => {
            let detail = format!("{why}; streams that nobody plays make room");
            Problem::new(503, "unavailable", "No more streams by HLS now", detail).retry_after(RETRY_AFTER_S)
        }
        NotPackaged::Draining => problem::draining(),
    }
}

fn no_playlist(why: PlaylistRefusal) -> Problem {
    let detail = why.to_string();
    match why {
        PlaylistRefusal::NoRendition => problem::not_found(detail),
        PlaylistRefusal::TooFarAhead { .. } => {
            Problem::new(400, "too-far-ahead", "The playlist is not that far yet", detail)
        }
        PlaylistRefusal::Late { .. } => {
            Problem::new(503, "late", "Nothing new in time", detail).retry_after(RETRY_AFTER_S)
        }
        PlaylistRefusal::NothingYet { .. } => {
            Problem::new(503, "nothing-yet", "There is no media yet", detail).retry_after(RETRY_AFTER_S)
        }
        PlaylistRefusal::Stopped => {
            Problem::new(503, "unavailable", "The stream is packaged no longer", detail).retry_after(RETRY_AFTER_S)
        }
        PlaylistRefusal::Unpackageable(_) => {
            Problem::new(422, "unpackageable", "The stream cannot be played by HLS", detail)
        }
        PlaylistRefusal::TooManyWaiting(why) => too_many_waiting(why),
    }
}

fn media_refused(why: MediaRefusal) -> Problem {
    match why {
        MediaRefusal::Missing => no_media(),
        // As a hinted part that is not published after all (RFC 8216bis section 6.2.6).
        MediaRefusal::Late { .. } => problem::not_found(why.to_string()),
        MediaRefusal::TooManyWaiting(why) => too_many_waiting(why),
    }
}

fn too_many_waiting(why: TooManyWaiting) -> Problem {
    let detail = why.to_string();
    let problem = match why {
        TooManyWaiting::OfAll => Problem::new(503, "unavailable", "Too many requests wait", detail),
        TooManyWaiting::OfClient => Problem::new(429, "too-many-requests", "Too many requests", detail),
    };
    problem.retry_after(RETRY_AFTER_S)
}
