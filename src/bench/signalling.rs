//! HTTP on a thread of its own: POST an offer, DELETE a session (WHEP, WHIP). Orders go in, outcomes come out; the media
//! loop is woken when one is there.

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mio::Waker;
use reqwest::{Client, Response, StatusCode, Url, header};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use super::error::BenchError;

/// A server that takes longer has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// All sessions together have so long to be deleted at the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// An answer of six codecs and twenty candidates has about 6 KB; problems are shorter.
const BODY_MAX_BYTES: usize = 64 * 1024;
/// Deleting hundreds of sessions at once would be a flood that no viewers make.
const DELETES_AT_ONCE: usize = 16;
/// A refusal's explanation, as shown.
const DETAIL_MAX_CHARS: usize = 300;

#[derive(Debug)]
enum Order {
    Open { id: usize, url: Url, offer: String },
    Close(Url),
}

/// The answer to an offer.
#[derive(Debug)]
pub struct Outcome {
    /// Whose offer it was.
    pub id: usize,
    /// Just before the request was sent, and just after the answer's last byte.
    pub asked: Instant,
    pub answered: Instant,
    /// Or why there is no session: for people.
    pub result: Result<Accepted, String>,
}

#[derive(Debug)]
pub struct Accepted {
    pub answer: String,
    /// The session's URL; a server without one cannot be told that we leave.
    pub session: Option<Url>,
}

pub struct Signalling {
    orders: mpsc::UnboundedSender<Order>,
    outcomes: crossbeam_channel::Receiver<Outcome>,
    thread: JoinHandle<()>,
}

impl Signalling {
    /// # Errors
    /// When the system has no thread or TLS roots to give.
    pub fn start(token: Option<String>, waker: Arc<Waker>) -> Result<Self, BenchError> {
        // Bounded by use: one order per session made or left.
        let (orders, inbox) = mpsc::unbounded_channel();
        let (outbox, outcomes) = crossbeam_channel::unbounded();
        let client = Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .user_agent(concat!("sluice-bench/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| BenchError::Arguments(format!("no HTTP client: {error}")))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(BenchError::system("an event loop for HTTP"))?;
        let thread = std::thread::Builder::new()
            .name("bench-http".into())
            .spawn(move || runtime.block_on(serve(inbox, outbox, client, token, waker)))
            .map_err(BenchError::system("a thread for HTTP"))?;
        Ok(Self { orders, outcomes, thread })
    }

    pub fn open(&self, id: usize, url: Url, offer: String) {
        // The thread lives until `finish`.
        let _ = self.orders.send(Order::Open { id, url, offer });
    }

    pub fn close(&self, session: Url) {
        let _ = self.orders.send(Order::Close(session));
    }

    pub fn poll(&self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }

    /// Waits until everything ordered is done, for a few seconds at the most.
    pub fn finish(self) {
        drop(self.orders);
        // A panic there has been printed by its thread.
        let _ = self.thread.join();
    }
}

async fn serve(
    mut orders: mpsc::UnboundedReceiver<Order>,
    outcomes: crossbeam_channel::Sender<Outcome>,
    client: Client,
    token: Option<String>,
    waker: Arc<Waker>,
) {
    let mut tasks = JoinSet::new();
    let deletes = Arc::new(Semaphore::new(DELETES_AT_ONCE));
    while let Some(order) = orders.recv().await {
        let (client, token) = (client.clone(), token.clone());
        match order {
            Order::Open { id, url, offer } => {
                let (outcomes, waker) = (outcomes.clone(), waker.clone());
                tasks.spawn(async move {
                    let asked = Instant::now();
                    let result = open(&client, token.as_deref(), url, offer).await;
                    let _ = outcomes.send(Outcome { id, asked, answered: Instant::now(), result });
                    // Without it the loop finds the outcome at its next tick.
                    let _ = waker.wake();
                });
            }
            Order::Close(session) => {
                let deletes = deletes.clone();
                tasks.spawn(async move {
                    let _turn = deletes.acquire().await;
                    // Whatever it answers, consent ends the session soon.
                    let _ = authorised(client.delete(session), token.as_deref()).send().await;
                });
            }
        }
        while tasks.try_join_next().is_some() {}
    }
    let _ = tokio::time::timeout(FAREWELL, async { while tasks.join_next().await.is_some() {} }).await;
}

fn authorised(request: reqwest::RequestBuilder, token: Option<&str>) -> reqwest::RequestBuilder {
    match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

async fn open(client: &Client, token: Option<&str>, url: Url, offer: String) -> Result<Accepted, String> {
    let request = client.post(url.clone()).header(header::CONTENT_TYPE, "application/sdp").body(offer);
    let response = authorised(request, token).send().await.map_err(|error| unreachable(&url, &error))?;
    let (status, url) = (response.status(), response.url().clone());
    let location = header_text(&response, header::LOCATION);
    let retry_after = header_text(&response, header::RETRY_AFTER);
    let body = body(response).await?;
    if !status.is_success() {
        return Err(refusal(status, &url, retry_after.as_deref(), &body));
    }
    // Relative or absolute, and of wherever redirects led.
    let session = location.and_then(|location| url.join(&location).ok());
    Ok(Accepted { answer: body, session })
}

fn header_text(response: &Response, name: header::HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

async fn body(mut response: Response) -> Result<String, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| format!("its response broke off: {error}"))? {
        if bytes.len() + chunk.len() > BODY_MAX_BYTES {
            return Err(format!("its response is longer than {BODY_MAX_BYTES} bytes; is the URL a WHEP endpoint?"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn unreachable(url: &Url, error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("{url} did not answer within {} s", REQUEST_TIMEOUT.as_secs());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.is_connect() {
        return format!("nobody answers at {url} ({cause}); is the server running, and the port right?");
    }
    format!("{url} failed: {cause}")
}

/// Says what a status means here, and what to change.
fn refusal(status: StatusCode, url: &Url, retry_after: Option<&str>, body: &str) -> String {
    let advice = match status.as_u16() {
        400 => "the endpoint calls the request malformed",
        401 => "it wants a token, or another one; give it with --token",
        403 => "the token is good but may not do this",
        404 => "there is no such endpoint or stream; a server may need a publisher first (--publish makes one)",
        405 => "the URL takes no POST; is it a WHEP endpoint?",
        406 | 415 | 422 => "the endpoint cannot serve our offer (H264, VP8, VP9, AV1, Opus)",
        409 => "the stream is not live, or has a publisher already; start one, or use --publish",
        429 | 503 => "the server takes no more sessions now",
        _ => "the endpoint refuses",
    };
    let retry = retry_after.map(|seconds| format!(", Retry-After {seconds}")).unwrap_or_default();
    let detail = match detail(body) {
        text if text.is_empty() => text,
        text => format!(": {text}"),
    };
    format!("{url} answered {status}{retry}: {advice}{detail}")
}

/// Of problem details (RFC 9457) what is for people; of anything else its beginning.
fn detail(body: &str) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let told = problem.as_ref().and_then(|problem| problem.get("detail").or(problem.get("title"))?.as_str());
    let text = told.unwrap_or(body).trim();
    text.chars().take(DETAIL_MAX_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_happened_and_what_to_change() {
        let url = Url::parse("http://127.0.0.1:1/whep/a").unwrap();
        let problem = r#"{"status":401,"title":"No token","detail":"the token expired"}"#;
        let text = refusal(StatusCode::UNAUTHORIZED, &url, None, problem);
        assert!(text.contains("401") && text.contains("--token") && text.ends_with(": the token expired"), "{text}");
        let text = refusal(StatusCode::CONFLICT, &url, Some("2"), "");
        assert!(text.contains("Retry-After 2") && text.contains("--publish"), "{text}");
        assert!(detail(&"x\n".repeat(1_000)).len() <= DETAIL_MAX_CHARS);
    }
}
