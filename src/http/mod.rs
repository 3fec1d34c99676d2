//! The HTTP doors: signalling, API, pages, metrics.

pub mod pages;
pub mod plane;
