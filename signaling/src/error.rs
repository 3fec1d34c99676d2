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

impl Problem {
    /// The media type of [`Problem::to_json`].
    pub const CONTENT_TYPE: &'static str = "application/problem+json";

    pub fn new(status: u16, slug: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, slug, title, detail: detail.into(), retry_after_s: None }
    }

    /// Says when trying again may help, in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    /// The body: the members of RFC 9457 section 3.1, `type` as a reference relative to the server.
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "type": format!("/problems/{}", self.slug),
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_written_as_rfc_9457_says() {
        let problem =
            Problem::new(409, "not-live", "The stream is not live", "nobody publishes \"cam1\"").retry_after(2);
        let json: serde_json::Value = serde_json::from_str(&problem.to_json()).unwrap();
        assert_eq!(json["type"], "/problems/not-live");
        assert_eq!(json["title"], "The stream is not live");
        assert_eq!(json["status"], 409);
        assert_eq!(json["detail"], "nobody publishes \"cam1\"");
        assert_eq!(problem.retry_after_s, Some(2));
    }
}
