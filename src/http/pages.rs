//! The web pages: dashboard, publisher, player, embedded from `web/dist` (Vite's output).
//!
//! In: GET and HEAD on `/`, `/publish/{stream}`, `/watch/{stream}`, the files that these pages load, and the client library, which pages
//! of every origin may load. Out: the files
//! with their caching and security headers. The pages talk to the API, WHIP and WHEP like any other client; nothing
//! here knows what is live, and no token is looked at.
//!
//! A release build embeds what was in `web/dist` when it was compiled; a debug build reads the folder at each request.
//! Without the folder everything else works, and the pages say how to build them.

use std::borrow::Cow;

use axum::{
    Router,
    body::Body,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use rust_embed::{EmbeddedFile, RustEmbed};
use sluice_signaling::{name::StreamName, redirect::NodeUrl};

use super::conditional;

#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Dist;

/// What the pages may load and do. Media goes by WebRTC and `srcObject`, which CSP does not govern; `blob:` is for
/// pictures and video made in the page. No script builds markup from text (trusted types), nobody may frame a page
/// whose buttons publish and kick. `connect-src` is added to it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     media-src 'self' blob:; font-src 'self'; manifest-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// The whole policy: the pages talk to this server, and to the one that it sends them to when it is full or stops.
fn policy(overflow_to: Option<&NodeUrl>) -> HeaderValue {
    let other = overflow_to.map(|node| format!(" {}", node.origin())).unwrap_or_default();
    let policy = format!("{CONTENT_SECURITY_POLICY}; connect-src 'self'{other}");
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static(CONTENT_SECURITY_POLICY))
}

/// The page that is served when there is no build has no script and no style.
const BARE_CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Browser features that no page needs.
const PERMISSIONS_NEVER: &str = "accelerometer=(), geolocation=(), gyroscope=(), hid=(), magnetometer=(), \
     midi=(), payment=(), serial=(), usb=(), xr-spatial-tracking=()";
const PERMISSIONS_DASHBOARD: &str =
    "camera=(), microphone=(), display-capture=(), autoplay=(), fullscreen=(), clipboard-write=(self)";
const PERMISSIONS_PUBLISH: &str = "camera=(self), microphone=(self), display-capture=(self), autoplay=(self), \
     fullscreen=(self), clipboard-write=(self), screen-wake-lock=(self)";
const PERMISSIONS_WATCH: &str = "camera=(), microphone=(), display-capture=(), autoplay=(self), fullscreen=(self), \
     picture-in-picture=(self), clipboard-write=(self), screen-wake-lock=(self)";

/// Assets carry a hash of their content in their name, so they never change: a year, as long as RFC 9111 caches trust.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// Everything else is asked for again each time, and answered 304 when it is the same.
const REVALIDATE: &str = "no-cache";

#[derive(Debug, Clone, Copy)]
enum Page {
    Dashboard,
    Publish,
    Watch,
}

impl Page {
    fn file(self) -> &'static str {
        match self {
            Self::Dashboard => "index.html",
            Self::Publish => "publish.html",
            Self::Watch => "watch.html",
        }
    }

    fn permissions(self) -> &'static str {
        match self {
            Self::Dashboard => PERMISSIONS_DASHBOARD,
            Self::Publish => PERMISSIONS_PUBLISH,
            Self::Watch => PERMISSIONS_WATCH,
        }
    }
}

/// Routes of the pages and of what they load. They need no state: merge it into a router with any.
pub fn router<S: Clone + Send + Sync + 'static>(overflow_to: Option<&NodeUrl>) -> Router<S> {
    let policy = policy(overflow_to);
    let dashboard = policy.clone();
    let of_stream = |kind| {
        let policy = policy.clone();
        get(async move |Path(stream): Path<String>, headers: HeaderMap| stream_page(kind, &stream, policy, &headers))
    };
    Router::new()
        .route("/", get(async move |headers: HeaderMap| page(Page::Dashboard, Dist::get, dashboard, &headers)))
        .route("/publish/{stream}", of_stream(Page::Publish))
        .route("/watch/{stream}", of_stream(Page::Watch))
        .route("/assets/{file}", get(asset))
        .route("/favicon.svg", get(favicon))
        .route("/client.js", get(|headers: HeaderMap| async move { client(Dist::get, &headers) }))
}

async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Response {
    match is_plain_file_name(&file).then(|| Dist::get(&format!("assets/{file}"))).flatten() {
        Some(found) => serve(&file, &found, IMMUTABLE, &headers),
        None => missing(),
    }
}

async fn favicon(headers: HeaderMap) -> Response {
    match Dist::get("favicon.svg") {
        Some(found) => serve("favicon.svg", &found, REVALIDATE, &headers),
        None => missing(),
    }
}

/// The client library, for scripts of every origin, as WHIP and WHEP are.
fn client(files: impl Fn(&str) -> Option<EmbeddedFile>, headers: &HeaderMap) -> Response {
    let Some(found) = files("client.js") else { return missing() };
    let mut response = serve("client.js", &found, REVALIDATE, headers);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    response
}

fn stream_page(kind: Page, stream: &str, policy: HeaderValue, headers: &HeaderMap) -> Response {
    match stream.parse::<StreamName>() {
        Ok(_) => page(kind, Dist::get, policy, headers),
        Err(invalid) => bare_page(
            StatusCode::BAD_REQUEST,
            "This is not a stream name",
            &format!("<p>{}.</p><p><a href=\"/\">To the dashboard</a></p>", escape(&invalid.to_string())),
        ),
    }
}

/// A page, or what to do to have it. `files` is where it comes from, so that tests need no build.
fn page(
    kind: Page,
    files: impl Fn(&str) -> Option<EmbeddedFile>,
    policy: HeaderValue,
    headers: &HeaderMap,
) -> Response {
    let Some(found) = files(kind.file()) else { return unbuilt() };
    let mut response = serve(kind.file(), &found, REVALIDATE, headers);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    // Two fields are one dictionary (RFC 8941 section 3.2).
    headers.insert("permissions-policy", HeaderValue::from_static(kind.permissions()));
    headers.append("permissions-policy", HeaderValue::from_static(PERMISSIONS_NEVER));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    response
}

/// A file with its type and validator, or 304 when the client has it.
fn serve(name: &str, file: &EmbeddedFile, cache_control: &'static str, request: &HeaderMap) -> Response {
    let etag = etag(&file.metadata.sha256_hash());
    let mut response = if conditional::is_known(request, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let body = match &file.data {
            Cow::Borrowed(embedded) => Body::from(*embedded),
            Cow::Owned(read) => Body::from(read.clone()),
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    secure(headers);
    response
}

/// A page's URL may hold a token: no other site is told it.
fn secure(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
}

/// A strong validator: 16 bytes of the content's SHA-256 tell any two builds apart.
fn etag(sha256: &[u8; 32]) -> String {
    let hex: String = sha256.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

/// Vite writes assets flat, with such names; anything else is not ours.
fn is_plain_file_name(name: &str) -> bool {
    !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// Types of what the build writes. `nosniff` is on, so they must be right.
fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        Some("json" | "map" | "webmanifest") => "application/json",
        _ => "application/octet-stream",
    }
}

fn missing() -> Response {
    bare_page(StatusCode::NOT_FOUND, "There is nothing here", "<p><a href=\"/\">To the dashboard</a></p>")
}

/// 200: the server is well, and whoever opens it in a browser is to read this.
fn unbuilt() -> Response {
    bare_page(
        StatusCode::OK,
        "The pages are not built yet",
        "<p>Sluice is running: WHIP, WHEP, RTMP, the API and the metrics work. Only its web pages are missing from this \
         build.</p>\
         <p>Build everything and start anew, in the project's folder:</p><pre>scripts/run</pre>\
         <p>or build the pages alone (this needs Node 20.19 or newer):</p>\
         <pre>cd web\nnpm ci\nnpm run build</pre>\
         <p>A debug build finds them at the next reload; a release build embeds them at the next <code>cargo build \
         --release</code>.</p>",
    )
}

/// A page of ours without a build: `content` is markup, `title` is plain text.
fn bare_page(status: StatusCode, title: &str, content: &str) -> Response {
    let title = escape(title);
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} - Sluice</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"></head>\
         <body><main><h1>{title}</h1>{content}</main></body></html>"
    );
    let mut response = (status, html).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(BARE_CONTENT_SECURITY_POLICY));
    secure(headers);
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use rust_embed::Metadata;

    use super::*;

    fn built(name: &str) -> Option<EmbeddedFile> {
        let metadata = Metadata::__rust_embed_new([7; 32], None, None);
        Some(EmbeddedFile { data: Cow::Owned(name.as_bytes().to_vec()), metadata })
    }

    fn field<'a>(response: &'a Response, name: &str) -> &'a str {
        response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    async fn text(response: Response) -> String {
        String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_page_is_revalidated_and_locked_down() {
        let response = page(Page::Publish, built, policy(None), &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(field(&response, "content-type"), "text/html; charset=utf-8");
        assert_eq!(field(&response, "cache-control"), "no-cache");
        assert_eq!(field(&response, "x-content-type-options"), "nosniff");
        assert_eq!(field(&response, "referrer-policy"), "no-referrer");
        assert!(field(&response, "content-security-policy").contains("script-src 'self';"));
        assert!(!field(&response, "content-security-policy").contains("unsafe"));
        assert!(field(&response, "permissions-policy").contains("camera=(self)"));
        assert_eq!(text(response).await, "publish.html");
    }

    #[test]
    fn pages_follow_this_server_to_the_one_that_it_sends_them_to_and_to_no_other() {
        let node: NodeUrl = "https://b.example.net/live".parse().unwrap();
        for (other, sources) in
            [(None, "connect-src 'self'"), (Some(&node), "connect-src 'self' https://b.example.net")]
        {
            let response = page(Page::Watch, built, policy(other), &HeaderMap::new());
            let policy = field(&response, "content-security-policy");
            assert_eq!(policy.split("; ").find(|part| part.starts_with("connect-src")), Some(sources), "{policy}");
        }
    }

    #[test]
    fn only_the_publisher_may_use_the_camera() {
        for kind in [Page::Dashboard, Page::Watch] {
            let response = page(kind, built, policy(None), &HeaderMap::new());
            assert!(field(&response, "permissions-policy").contains("camera=()"), "{kind:?}");
        }
    }

    #[tokio::test]
    async fn a_file_the_client_has_is_not_sent_again() {
        let etag = "\"07070707070707070707070707070707\"";
        for known in [etag.to_owned(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            let mut request = HeaderMap::new();
            request.insert(header::IF_NONE_MATCH, HeaderValue::from_str(&known).unwrap());
            let response = serve("a.js", &built("a.js").unwrap(), IMMUTABLE, &request);
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(field(&response, "etag"), etag);
            assert_eq!(field(&response, "cache-control"), IMMUTABLE);
            assert_eq!(text(response).await, "");
        }
        let mut request = HeaderMap::new();
        request.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"other\""));
        let response = serve("a.js", &built("a.js").unwrap(), IMMUTABLE, &request);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(field(&response, "content-type"), "text/javascript; charset=utf-8");
    }

    #[test]
    fn scripts_of_every_origin_may_load_the_client_library_and_nothing_else() {
        let response = client(built, &HeaderMap::new());
        assert_eq!(field(&response, "content-type"), "text/javascript; charset=utf-8");
        assert_eq!(field(&response, "access-control-allow-origin"), "*");
        assert_eq!(field(&response, "cross-origin-resource-policy"), "cross-origin");
        assert_eq!(client(|_| None, &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
        let asset = serve("a.js", &built("a.js").unwrap(), IMMUTABLE, &HeaderMap::new());
        assert_eq!(field(&asset, "cross-origin-resource-policy"), "same-origin");
        assert_eq!(field(&asset, "access-control-allow-origin"), "");
    }

    #[tokio::test]
    async fn without_a_build_the_pages_say_how_to_make_one() {
        let response = page(Page::Dashboard, |_| None, policy(None), &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(field(&response, "cache-control"), "no-store");
        let page = text(response).await;
        assert!(page.contains("scripts/run") && page.contains("npm ci"), "{page}");
    }

    #[tokio::test]
    async fn a_bad_stream_name_is_refused_with_the_reason_escaped() {
        let response = stream_page(Page::Watch, "a<b", policy(None), &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let page = text(response).await;
        assert!(page.contains("this one has &#39;&lt;&#39;"), "{page}");
    }

    #[tokio::test]
    async fn nothing_outside_the_assets_is_served() {
        for name in ["../../Cargo.toml", "..", ".gitignore", "a/b.js", "none.js"] {
            assert_eq!(asset(Path(name.into()), HeaderMap::new()).await.status(), StatusCode::NOT_FOUND, "{name}");
        }
    }
}
