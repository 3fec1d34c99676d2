//! Tells the program which revision it was built from (`SLUICE_REVISION`); "unknown" outside a git clone.

use std::{path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=SLUICE_REVISION");
    // Who builds without git (packagers, containers) can say it.
    let given = std::env::var("SLUICE_REVISION").ok().filter(|revision| !revision.is_empty());
    let revision = given.or_else(|| git(&["rev-parse", "--short=12", "HEAD"])).unwrap_or_else(|| "unknown".into());
    println!("cargo:rustc-env=SLUICE_REVISION={revision}");

    // A commit or a checkout changes one of these. Only files that exist: cargo would rebuild each time for one that does not.
    let branch = git(&["symbolic-ref", "-q", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }

    // A release build embeds the pages (`src/http/pages.rs`): one made after `npm run build` must not keep the old ones, or
    // none. The folder is made where it is missing, for the same reason as above; debug builds read it as they run.
    let embeds_pages = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if embeds_pages && std::fs::create_dir_all("web/dist").is_ok() {
        println!("cargo:rerun-if-changed=web/dist");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
