//! Who may have playlists: bearers of the right to subscribe, by header, query or cookie.
//!
//! A token from the query goes into every URI of the playlists, for players that send neither headers nor cookies. With `cookie=yes` it
//! is kept as a cookie instead, which a page sets before a native player asks by a clean URL.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use axum::http::{HeaderMap, HeaderValue, header, request::Parts};
use sluice_signaling::{
    http as plain,
    token::{Denied, Grant, Presenter, Right},
};

use super::{Refused, directives::Bearer};
use crate::{
    http::{AppState, forwarded, now, presented, problem},
    media::StreamName,
    packaging::ViewerKey,
};

const COOKIE: &str = "sluice_hls";

/// How a request is allowed.
pub struct Access {
    grant: Grant,
    /// What goes behind URIs: `?token=...`.
    pub carried: Option<String>,
    /// `Set-Cookie`.
    pub cookie: Option<HeaderValue>,
    /// Not everybody may see the answer.
    pub is_private: bool,
    token: Option<String>,
    denied: DeniedCount,
}

/// Counts refusals.
type DeniedCount = Box<dyn Fn(&Denied) + Send + Sync>;

/// # Errors
/// 401 or 403, as everywhere; 400 for two tokens.
pub fn check(state: &AppState, stream: &StreamName, head: &Parts, ip: IpAddr) -> Result<Access, Refused> {
    let bearer = Bearer::read(&head.uri)?;
    let headers = &head.headers;
    let metrics = state.metrics.clone();
    let denied: DeniedCount = Box::new(move |why| metrics.count_auth_failure(why.reason()));
    let by_header = presented::text(headers, header::AUTHORIZATION);
    let presenter = presented::presenter(headers, bearer.token.as_deref().or_else(|| cookie(headers)), ip);
    let grant = state.authenticator.authorise(&presenter, Right::Subscribe, stream, now()).map_err(|why| {
        denied(&why);
        refusal(why)
    })?;
    if state.authenticator.is_open() {
        return Ok(Access { grant, carried: None, cookie: None, is_private: false, token: None, denied });
    }
    let in_query = bearer.token.as_deref().filter(|_| by_header.is_none() && !bearer.cookie);
    // It was verified, so it is of letters that need no encoding.
    let carried = in_query.map(|token| format!("?token={token}"));
    let cookie = if bearer.cookie { set_cookie(&presenter, stream, &grant, forwarded::is_https(head)) } else { None };
    Ok(Access { grant, carried, cookie, is_private: true, token: presenter.token.map(str::to_owned), denied })
}

impl Access {
    /// What tells its viewer from others.
    pub fn viewer<'a>(&'a self, headers: &'a HeaderMap, ip: IpAddr) -> ViewerKey<'a> {
        let user_agent = presented::text(headers, header::USER_AGENT).unwrap_or_default();
        ViewerKey { ip, user_agent, token: self.token.as_deref() }
    }

    /// Until when the token lasts.
    fn left(&self) -> Option<Duration> {
        self.grant.expires.map(|expires| expires.duration_since(now()).unwrap_or_default())
    }

    /// Waits, but not past the token's end.
    ///
    /// # Errors
    /// 401 when it ends first.
    pub async fn while_it_lasts<T>(&self, answer: impl Future<Output = T>) -> Result<T, Refused> {
        let Some(left) = self.left() else { return Ok(answer.await) };
        tokio::time::timeout(left, answer).await.map_err(|_| {
            (self.denied)(&Denied::Expired);
            refusal(Denied::Expired)
        })
    }
}

fn refusal(why: Denied) -> Refused {
    Refused(Box::new(problem::written(plain::Response::from(why))))
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let fields = headers.get_all(header::COOKIE).iter().filter_map(|field| field.to_str().ok());
    let mut pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// The token itself, which is signed. Cookies of other sites' pages (`SameSite=None`) exist by HTTPS alone.
fn set_cookie(presenter: &Presenter<'_>, stream: &StreamName, grant: &Grant, is_https: bool) -> Option<HeaderValue> {
    let token = presenter.token?;
    let left = grant.expires?.duration_since(SystemTime::now()).unwrap_or_default().as_secs();
    let scope = if is_https { "SameSite=None; Secure" } else { "SameSite=Lax" };
    let cookie = format!("{COOKIE}={token}; Path=/hls/{stream}/; Max-Age={left}; HttpOnly; {scope}");
    let mut value = HeaderValue::try_from(cookie).ok()?;
    value.set_sensitive(true);
    Some(value)
}
