//! What a playlist's URL asks: delivery directives (RFC 8216bis section 6.2.5), and the token.

use axum::http::{HeaderMap, Uri, header};
use sluice_signaling::error::Problem;

use crate::{
    http::{presented, problem},
    packaging::Asked,
};

/// Players that begin with the parts of a playlist: Apple's. Others (hls.js to 1.7 and FFmpeg to 9 at least, and what is made of it)
/// take a playlist without a whole segment for an empty one, and give up after a few.
const BEGIN_WITH_PARTS: [&str; 1] = ["AppleCoreMedia/"];

/// Of the query, what says who asks. It is all that is read of it before they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bearer {
    pub token: Option<String>,
    /// The token is wanted back as a cookie.
    pub cookie: bool,
}

impl Bearer {
    /// # Errors
    /// 400 for two tokens.
    pub fn read(uri: &Uri) -> Result<Self, Problem> {
        let cookie = pairs(uri).rev().find(|(name, _)| *name == "cookie").is_some_and(|(_, value)| value == "yes");
        Ok(Self { token: presented::query_token(uri)?, cookie })
    }
}

/// Delivery directives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// `_HLS_msn`.
    pub segment: Option<u64>,
    /// `_HLS_part`.
    pub part: Option<u64>,
    /// `_HLS_skip`.
    pub skip: bool,
}

impl Query {
    /// # Errors
    /// 400 for what is malformed, there twice, or a part of no segment.
    pub fn read(uri: &Uri) -> Result<Self, Problem> {
        let mut query = Self::default();
        for (name, value) in pairs(uri) {
            match name {
                "_HLS_msn" => number(name, value, &mut query.segment)?,
                "_HLS_part" => number(name, value, &mut query.part)?,
                "_HLS_skip" => match value {
                    "YES" | "v2" => query.skip = true,
                    _ => return Err(problem::bad_request("_HLS_skip is YES or v2")),
                },
                _ => {}
            }
        }
        if query.part.is_some() && query.segment.is_none() {
            return Err(problem::bad_request(
                "_HLS_part names a part of the segment that _HLS_msn names, which is missing",
            ));
        }
        Ok(query)
    }
}

fn pairs(uri: &Uri) -> impl DoubleEndedIterator<Item = (&str, &str)> {
    uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='))
}

fn number(name: &str, value: &str, place: &mut Option<u64>) -> Result<(), Problem> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|_| digits);
    let number = number.ok_or_else(|| problem::bad_request(format!("{name} is a decimal integer")))?;
    match place.replace(number) {
        None => Ok(()),
        Some(_) => Err(problem::bad_request(format!("{name} is there twice"))),
    }
}

/// What the playlist must have.
pub fn asked(query: &Query, headers: &HeaderMap) -> Asked {
    match query.segment {
        Some(segment) => Asked::From { segment, part: query.part },
        None => {
            let agent = presented::text(headers, header::USER_AGENT).unwrap_or_default();
            Asked::Any { whole_segment: !BEGIN_WITH_PARTS.iter().any(|begin| agent.starts_with(begin)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(query: &str) -> Result<Query, u16> {
        let uri = format!("/hls/cam1/r0.m3u8?{query}").parse().unwrap();
        Query::read(&uri).map_err(|problem| problem.status)
    }

    #[test]
    fn directives_are_read_and_what_is_malformed_is_refused() {
        let plain = Query::default();
        assert_eq!(read("").unwrap(), plain);
        assert_eq!(read("_HLS_msn=7").unwrap(), Query { segment: Some(7), ..plain.clone() });
        assert_eq!(
            read("_HLS_msn=7&_HLS_part=0&_HLS_skip=YES&token=a.b.c").unwrap(),
            Query { segment: Some(7), part: Some(0), skip: true }
        );
        assert!(read("_HLS_skip=v2").unwrap().skip);
        assert_eq!(read("_HLS_other=1&x").unwrap(), plain, "reserved, and not for us");
        for refused in [
            "_HLS_part=1",
            "_HLS_msn=",
            "_HLS_msn=-1",
            "_HLS_msn=+1",
            "_HLS_msn=1.5",
            "_HLS_msn=18446744073709551616",
            "_HLS_msn=1&_HLS_msn=2",
            "_HLS_msn=1&_HLS_part=x",
            "_HLS_skip=no",
        ] {
            assert_eq!(read(refused), Err(400), "{refused}");
        }
    }

    #[test]
    fn who_asks_is_read_whatever_else_is_asked() {
        let read = |query: &str| {
            let uri = format!("/hls/cam1/r0.m3u8?{query}").parse().unwrap();
            Bearer::read(&uri).map_err(|problem| problem.status)
        };
        assert_eq!(read("_HLS_msn=x&token=a.b.c").unwrap(), Bearer { token: Some("a.b.c".into()), cookie: false });
        assert_eq!(read("cookie=yes").unwrap(), Bearer { token: None, cookie: true });
        assert_eq!(read("token=a&token=b"), Err(400));
    }

    #[test]
    fn players_that_need_a_whole_segment_get_one() {
        let with = |agent: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
            asked(&Query::default(), &headers)
        };
        assert_eq!(with("AppleCoreMedia/1.0.0.21A329"), Asked::Any { whole_segment: false });
        assert_eq!(with("Mozilla/5.0 (X11; Linux x86_64)"), Asked::Any { whole_segment: true });
        assert_eq!(with("Lavf/61.7.100"), Asked::Any { whole_segment: true });
        assert_eq!(asked(&Query::default(), &HeaderMap::new()), Asked::Any { whole_segment: true });
    }
}
