//! Problems as a client reads them: `application/problem+json` (RFC 9457).

/// A refusal, ready to be written as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status} {title}: {detail}")]
pub struct Problem {
    pub status: u16,
    /// The last part of the problem's type URI (`/problems/{slug}`): stable, for programs.
    pub slug: &'static str,
    /// One short sentence, the same for every occurrence of this type.
    pub title: &'static str,
    /// What happened this time and what to change.
    pub detail: String,
    /// Seconds for `Retry-After`, where trying again helps.
    pub retry_after_s: Option<u32>,
}
