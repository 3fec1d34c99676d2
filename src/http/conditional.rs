//! Conditions and preferences of requests, where several rooms answer them: validators and content codings (RFC 9110).

use axum::http::{HeaderMap, HeaderValue, header};

/// `If-None-Match` names this tag: what the client has is the same.
pub fn is_known(request: &HeaderMap, etag: &str) -> bool {
    request.get_all(header::IF_NONE_MATCH).iter().any(|field| names_tag(field, etag))
}

/// `If-None-Match` compares weakly: `W/` makes no difference (RFC 9110 section 13.1.2).
fn names_tag(field: &HeaderValue, etag: &str) -> bool {
    let Ok(field) = field.to_str() else { return false };
    field.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// The client takes gzip (RFC 9110 section 12.5.3); one that says nothing is not asked to.
pub fn accepts_gzip(request: &HeaderMap) -> bool {
    let fields = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|field| field.to_str().ok());
    let mut any = false;
    for coding in fields.flat_map(|field| field.split(',')) {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = parameters.trim().strip_prefix("q=").map_or(1.0, |q| q.trim().parse().unwrap_or(0.0));
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => return weight > 0.0,
            "*" => any = weight > 0.0,
            _ => {}
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_known_tag_is_found_in_any_form() {
        for values in [&["\"a\""][..], &["\"b\", \"a\""], &["\"b\"", "W/\"a\""], &["*"]] {
            assert!(is_known(&headers(header::IF_NONE_MATCH, values), "\"a\""), "{values:?}");
        }
        for values in [&[][..], &["a"], &["\"A\""], &["\"a-gz\""], &[""]] {
            assert!(!is_known(&headers(header::IF_NONE_MATCH, values), "\"a\""), "{values:?}");
        }
    }

    #[test]
    fn gzip_is_used_where_it_is_wished() {
        for value in ["gzip", "deflate, GZIP;q=0.5", "br, *", "gzip;q=1.0, *;q=0"] {
            assert!(accepts_gzip(&headers(header::ACCEPT_ENCODING, &[value])), "{value}");
        }
        for value in ["", "br", "identity", "gzip;q=0", "*;q=0", "gzip;q=0, *", "gzip;q=x"] {
            assert!(!accepts_gzip(&headers(header::ACCEPT_ENCODING, &[value])), "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
