//! WHIP and WHEP endpoints of other servers (RFC 9725, draft-ietf-wish-whep): an offer out, an answer in, and a goodbye at the end. Knows no
//! media. What an endpoint says is bounded, and told without its secrets.

use std::{net::SocketAddr, time::Duration};

use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, header, redirect};

use super::path::{PATH_HEADER, Path};
use crate::config::{EndpointUrl, without_secrets};

/// From a request to the last byte of its answer.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// A session that cannot be ended in this time ends by itself, for want of packets.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);
/// An answer of six codecs and twenty candidates has about 6 KB; problems are shorter.
const BODY_MAX_BYTES: usize = 64 * 1024;
/// A load balancer, and the server that it names (RFC 9725 section 4.5).
const REDIRECTS_MAX: usize = 3;
/// Letters kept of what a server calls itself.
const SERVER_NAME_MAX_LETTERS: usize = 128;
/// Letters kept of what the other side says.
const DETAIL_MAX_LETTERS: usize = 200;

/// Asks endpoints.
#[derive(Debug, Clone)]
pub struct Endpoints {
    client: Option<Client>,
}

/// What an endpoint made of an offer.
pub(super) struct Accepted {
    /// The answer's SDP.
    pub answer: String,
    pub session: Session,
    /// Where the answer came from.
    pub remote: Option<SocketAddr>,
    /// What the server calls itself; empty when it does not.
    pub server_name: String,
    /// Which nodes it has the stream through; empty where it does not say.
    pub path: Path,
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// In words.
    pub reason: String,
    /// When the endpoint wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { reason, retry_after: None }
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

/// A session at an endpoint, until it is told goodbye.
pub(super) struct Session {
    /// None: the endpoint named none.
    url: Option<Url>,
    endpoint: EndpointUrl,
}

impl Endpoints {
    /// `wanted`: there are endpoints to be asked.
    ///
    /// # Errors
    /// When there are, and the system has no certificates to trust.
    pub fn new(wanted: bool) -> Result<Self, reqwest::Error> {
        if !wanted {
            return Ok(Self { client: None });
        }
        let client = Client::builder()
            // Followed by hand: a POST stays one, and its token goes to nobody in the clear.
            .redirect(redirect::Policy::none())
            .timeout(REQUEST_DEADLINE)
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client: Some(client) })
    }

    /// Offers.
    ///
    /// # Errors
    /// Why there is no session, in words.
    pub(super) async fn open(&self, endpoint: &EndpointUrl, offer: String) -> Result<Accepted, String> {
        self.ask(endpoint, offer).await.map_err(|refusal| refusal.reason)
    }

    /// Offers.
    ///
    /// # Errors
    /// Why there is no session, and when to try again.
    pub(super) async fn ask(&self, endpoint: &EndpointUrl, offer: String) -> Result<Accepted, Refusal> {
        let client = self.client.as_ref().ok_or("there is no HTTP client")?;
        let mut url = endpoint.url().clone();
        for _ in 0..=REDIRECTS_MAX {
            let request = client.post(url.clone()).header(header::CONTENT_TYPE, "application/sdp");
            let response = authorised(request, endpoint, &url).body(offer.clone()).send().await;
            let response = response.map_err(|error| unreachable(&error))?;
            match response.status() {
                StatusCode::CREATED => {
                    // Relative to where the last redirect led.
                    let location = location(&response, &url);
                    let remote = response.remote_addr();
                    let server = header_text(&response, header::SERVER).unwrap_or_default();
                    let server_name = server.chars().take(SERVER_NAME_MAX_LETTERS).collect();
                    let path = header_text(&response, PATH_HEADER).map(Path::of_header).unwrap_or_default();
                    let answer = body(response).await?;
                    let session = Session { url: location, endpoint: endpoint.clone() };
                    return Ok(Accepted { answer, session, remote, server_name, path });
                }
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
                    let to = location(&response, &url).filter(|to| matches!(to.scheme(), "http" | "https"));
                    url = to.ok_or("it redirects without saying where")?;
                }
                status => {
                    let seconds = header_text(&response, header::RETRY_AFTER).and_then(|text| text.parse().ok());
                    let retry_after = seconds.map(Duration::from_secs);
                    let detail = body(response).await.ok().and_then(|body| detail(&body));
                    let detail = detail.map(|detail| without_secrets(&detail, endpoint.secrets()));
                    let reason = refusal(status, endpoint.token().is_some(), detail.as_deref());
                    return Err(Refusal { reason, retry_after });
                }
            }
        }
        Err(format!("it redirects more than {REDIRECTS_MAX} times").into())
    }

    /// Ends a session. Whatever is answered, there is nothing more to be done.
    pub(super) async fn close(&self, session: &Session) {
        let (Some(client), Some(url)) = (&self.client, &session.url) else { return };
        let request = authorised(client.delete(url.clone()), &session.endpoint, url);
        let _ = request.timeout(GOODBYE_DEADLINE).send().await;
    }
}

/// With the endpoint's token: also where a redirect leads to another host, for that is how a service spreads its load; but never from a
/// connection that is encrypted to one that is not.
fn authorised(request: RequestBuilder, endpoint: &EndpointUrl, to: &Url) -> RequestBuilder {
    let is_in_the_clear = endpoint.url().scheme() == "https" && to.scheme() == "http";
    match endpoint.token().filter(|_| !is_in_the_clear) {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

fn header_text(response: &Response, name: impl header::AsHeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

fn location(response: &Response, base: &Url) -> Option<Url> {
    base.join(header_text(response, header::LOCATION)?).ok()
}

async fn body(mut response: Response) -> Result<String, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
        if bytes.len() + chunk.len() > BODY_MAX_BYTES {
            return Err(format!("its answer is longer than {} KiB", BODY_MAX_BYTES / 1024));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| "its answer is no text".into())
}

/// An error of the client's, without the URL, which may be a secret.
fn unreachable(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("it did not answer within {} s", REQUEST_DEADLINE.as_secs());
    }
    // The cause at the bottom says it best: "Connection refused".
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let is_own = std::ptr::eq(cause, error as &dyn std::error::Error);
    if is_own { "it cannot be reached".into() } else { format!("it cannot be reached: {cause}") }
}

/// What a problem (RFC 9457) or a plain text says.
fn detail(body: &str) -> Option<String> {
    let problem = serde_json::from_str::<serde_json::Value>(body).ok();
    let told = match &problem {
        Some(problem) => ["detail", "title", "error", "message"].iter().find_map(|name| problem.get(name)?.as_str())?,
        None if body.trim_start().starts_with('<') => return None,
        None => body,
    };
    let letters = told.trim().chars().filter(|letter| !letter.is_control()).take(DETAIL_MAX_LETTERS);
    Some(letters.collect::<String>()).filter(|detail| !detail.is_empty())
}

/// What a status means for the one who has set it.
fn refusal(status: StatusCode, with_token: bool, detail: Option<&str>) -> String {
    let what = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if with_token => "it refuses the token",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "it wants a token; write one behind the URL, as bearer=TOKEN"
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => "it knows no such endpoint, or no such stream",
        StatusCode::METHOD_NOT_ALLOWED => "there is no WHIP or WHEP endpoint at that URL",
        StatusCode::CONFLICT => "it has the stream already, or not yet",
        StatusCode::NOT_ACCEPTABLE | StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::UNPROCESSABLE_ENTITY => {
            "it takes none of these codecs"
        }
        StatusCode::TOO_MANY_REQUESTS => "it takes no more requests for now",
        StatusCode::SERVICE_UNAVAILABLE => "it takes no sessions at present",
        status if status.is_redirection() => "it redirects by a status that would not keep the offer",
        status if status.is_server_error() => "it failed",
        _ => "it refuses the offer",
    };
    let detail = detail.map_or_else(String::new, |detail| format!(": {detail}"));
    format!("{what} ({status}){detail}")
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Answers one request after the other, and gives what they were. `{port}` in an answer is the server's own.
    async fn server(answers: Vec<&'static str>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = async move {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (mut request, mut buffer) = (String::new(), [0; 4_096]);
                while !request.ends_with("v=0 offer") && !request.starts_with("DELETE") {
                    let count = stream.read(&mut buffer).await.unwrap();
                    request.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
                }
                requests.push(request);
                let (head, body) = answer.split_once("\n\n").unwrap_or((answer, ""));
                let head = head.replace('\n', "\r\n").replace("{port}", &port.to_string());
                let length = body.len();
                let answer = format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            requests
        };
        (port, tokio::spawn(serve))
    }

    async fn opened(answers: Vec<&'static str>, token: Option<&str>) -> (Result<Accepted, String>, Vec<String>) {
        let (port, requests) = server(answers).await;
        let endpoint = EndpointUrl::new(&format!("http://127.0.0.1:{port}/whip/cam1?key=wxyz"), token).unwrap();
        let accepted = Endpoints::new(true).unwrap().open(&endpoint, "v=0 offer".into()).await;
        (accepted, requests.await.unwrap())
    }

    #[tokio::test]
    async fn when_to_ask_again_is_heard() {
        let (port, _) =
            server(vec!["409 Conflict\nRetry-After: 7\n\nnot live", "503 Busy\nRetry-After: tomorrow\n\n"]).await;
        let endpoint = EndpointUrl::new(&format!("http://127.0.0.1:{port}/whep/cam1"), None).unwrap();
        let endpoints = Endpoints::new(true).unwrap();
        for seconds in [Some(7), None] {
            let refused = endpoints.ask(&endpoint, "v=0 offer".into()).await.err().unwrap();
            assert_eq!(refused.retry_after, seconds.map(Duration::from_secs), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn an_offer_is_answered_after_redirects_and_the_session_deleted_where_it_is() {
        let answers = vec![
            "307 Temporary Redirect\nLocation: http://localhost:{port}/edge/cam1",
            "201 Created\nLocation: sessions/7\nSluice-Path: 000000000000000a 000000000000000b\n\nv=0 answer",
            "200 OK",
        ];
        let (port, requests) = server(answers).await;
        let endpoint = EndpointUrl::new(&format!("http://127.0.0.1:{port}/whip/cam1"), Some("a.b.c")).unwrap();
        let endpoints = Endpoints::new(true).unwrap();
        let accepted = endpoints.open(&endpoint, "v=0 offer".into()).await.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(accepted.answer, "v=0 answer");
        assert_eq!(accepted.path.to_string(), "000000000000000a 000000000000000b");
        endpoints.close(&accepted.session).await;
        let requests = requests.await.unwrap();
        let lines: Vec<_> = requests.iter().map(|request| request.lines().next().unwrap_or("")).collect();
        let expected = ["POST /whip/cam1 HTTP/1.1", "POST /edge/cam1 HTTP/1.1", "DELETE /edge/sessions/7 HTTP/1.1"];
        assert_eq!(lines, expected);
        assert!(requests.iter().all(|request| request.contains("authorization: Bearer a.b.c")), "{requests:?}");
        assert!(requests.iter().take(2).all(|request| request.contains("content-type: application/sdp")));
    }

    #[tokio::test]
    async fn refusals_are_told_in_words_without_secrets() {
        let problem = "403 Forbidden\n\n{\"title\":\"no\",\"detail\":\"a.b.c may not publish wxyz\"}";
        let (refused, _) = opened(vec![problem], Some("a.b.c")).await;
        assert_eq!(refused.err().unwrap(), "it refuses the token (403 Forbidden): … may not publish …");
        let (refused, _) = opened(vec!["401 Unauthorized"], None).await;
        let told = "it wants a token; write one behind the URL, as bearer=TOKEN (401 Unauthorized)";
        assert_eq!(refused.err().unwrap(), told);
        for (answer, told) in [
            ("404 Not Found\n\n<html>", "it knows no such endpoint, or no such stream (404 Not Found)"),
            ("409 Conflict\n\nbusy", "it has the stream already, or not yet (409 Conflict): busy"),
            ("302 Found\nLocation: /x", "it redirects by a status that would not keep the offer (302 Found)"),
            ("307 Temporary Redirect", "it redirects without saying where"),
        ] {
            assert_eq!(opened(vec![answer], None).await.0.err().unwrap(), told);
        }
        let rounds = vec!["308 Permanent Redirect\nLocation: /again"; 4];
        assert_eq!(opened(rounds, None).await.0.err().unwrap(), "it redirects more than 3 times");
    }

    #[tokio::test]
    async fn who_cannot_be_reached_is_told_without_the_url() {
        let endpoint = EndpointUrl::new("http://127.0.0.1:1/whip/secret-name", None).unwrap();
        let why = Endpoints::new(true).unwrap().open(&endpoint, String::new()).await.err().unwrap();
        assert!(why.contains("refused") && !why.contains("secret-name"), "{why}");
    }

    #[test]
    fn a_token_is_not_sent_in_the_clear_after_a_redirect() {
        let endpoint = EndpointUrl::new("https://h.example.net/whip", Some("a.b.c")).unwrap();
        let sent = |to: &str| {
            let to: Url = to.parse().unwrap();
            let request = authorised(Client::new().post(to.clone()), &endpoint, &to).build().unwrap();
            request.headers().contains_key(header::AUTHORIZATION)
        };
        assert!(sent("https://edge.example.net/whip") && !sent("http://edge.example.net/whip"));
    }
}
