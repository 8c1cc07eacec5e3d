//! The error of plugins: a text, since all that is ever done with it is to show it.

use std::fmt;

/// Why a plugin can't go on. Returned from a call of [`Plugin`](crate::Plugin), it ends this plugin alone, and the report shows
/// the text beside the plugin's name.
///
/// Any other error becomes one by `?`.
pub struct Error(String);

/// A result whose error ends the plugin.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with this text. Say what is wrong, where, and what to do about it.
    pub fn new(text: impl Into<String>) -> Error {
        Error(text.into())
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

// Like anyhow's, this type is no `std::error::Error` itself; else it could not be made from every other one.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Error {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Error(text)
    }
}

impl From<Error> for String {
    fn from(error: Error) -> String {
        error.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
