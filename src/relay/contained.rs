//! Connections to other servers, apart from what depends on them.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

/// Drives a connection. What the other side says is read by crates of others: a panic there is this connection's end, not that of all that come
/// after it.
///
/// # Errors
/// It panicked; in words.
pub(super) async fn contained<T>(connection: impl Future<Output = T>) -> Result<T, String> {
    let ended = AssertUnwindSafe(connection).catch_unwind().await;
    ended.map_err(|_| "what it said could not be dealt with; the log has a panic".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_the_end_of_one_connection() {
        let ended = contained(async { panic!("a fault in somebody's parser") }).await;
        assert!(ended.is_err_and(|reason: String| reason.contains("panic")));
        assert_eq!(contained(async { 7 }).await, Ok(7));
    }
}
