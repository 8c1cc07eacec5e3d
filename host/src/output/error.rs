//! Errors in words.

use super::clean;

/// An error with its causes, `what: why`. A cause that its effect has quoted is not repeated; one of several lines begins its own.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let cause = cause.trim_end();
        if text.is_empty() || !last.contains(cause) {
            if !text.is_empty() {
                text.push_str(if cause.contains('\n') || last.contains('\n') { "\n" } else { ": " });
            }
            text.push_str(cause);
            last = cause.to_owned();
        }
    }
    clean::lines(&text).into_owned()
}
