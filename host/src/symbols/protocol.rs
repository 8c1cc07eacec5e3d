//! What host and symbolizer say to each other: frames as between host and worker ([`crate::worker::protocol`]).
//!
//! The symbolizer says [`Response::Ready`] once; from then on each request gets one response. A request to open a file comes with
//! the file's descriptor (`SCM_RIGHTS`). Nothing of a response is believed: [`check`] bounds it.

use serde::{Deserialize, Serialize};

use super::{UsdtSite, UserFunction, UserSymbol};
use crate::cage::{Layer, Missing};

/// A request is at most this long.
pub(super) const MAX_REQUEST: usize = 1 << 20;

/// A response is at most this long.
pub(super) const MAX_RESPONSE: usize = 8 << 20;

/// Addresses per request at most: a response has room for ten frames of each, with names as long as can be.
pub(super) const MAX_ADDRESSES: usize = 256;

/// Frames per address at most: the deepest inlining that is shown.
pub(super) const MAX_FRAMES: usize = 64;

/// Functions or USDT sites per response at most.
pub(super) const MAX_MATCHES: usize = 32 << 10;

/// A name, a file name or USDT arguments are at most this long, bytes; the symbolizer cuts what is longer.
pub(super) const MAX_TEXT: usize = 1024;

/// A pattern is at most this long, bytes.
pub(super) const MAX_PATTERN: usize = 256;

/// From the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Parse the ELF file that comes with this, and know it by a number.
    Open {
        /// The number.
        file: u64,
    },
    /// The file that comes with this may hold the debug information of another.
    OpenDebug {
        /// The other.
        file: u64,
    },
    /// Forget a file.
    Forget {
        /// Its number.
        file: u64,
    },
    /// What is at these offsets in a file?
    Symbolize {
        /// The file's number.
        file: u64,
        /// Offsets in the file, bytes.
        offsets: Vec<u64>,
        /// Look for source lines and inlined functions, too.
        lines: bool,
    },
    /// Which functions of a file have a name?
    Functions {
        /// The file's number.
        file: u64,
        /// The name; `*` and `?` are wild.
        pattern: String,
    },
    /// Where is a symbol of a file, seen from a byte of the file?
    Symbol {
        /// The file's number.
        file: u64,
        /// The symbol's name, whole.
        name: String,
        /// The byte.
        from: u64,
    },
    /// Which USDT probes of a file have a name?
    Usdt {
        /// The file's number.
        file: u64,
        /// The provider's name; `*` and `?` are wild.
        provider: String,
        /// The probe's name; `*` and `?` are wild.
        name: String,
    },
}

/// From the symbolizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Response {
    /// It has locked itself in, but for these layers.
    Ready(Vec<Missing>),
    /// A file is parsed.
    Opened(Links),
    /// A debug file belongs to its file and is used, or does not and is not.
    Debug(bool),
    /// A file is forgotten.
    Forgotten,
    /// One list per offset, innermost first; empty where nothing is known.
    Frames(Vec<Vec<Found>>),
    /// The functions, by file offset.
    Functions(Vec<UserFunction>),
    /// The symbol, if there is one.
    Symbol(Option<UserSymbol>),
    /// The probes, by file offset.
    Usdt(Vec<UsdtSite>),
    /// It can't be answered; why, in words.
    Error(String),
}

/// Where a file says that its debug information is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Links {
    /// It holds debug information itself.
    pub(super) debug: bool,
    /// Its build id.
    pub(super) build_id: Vec<u8>,
    /// The file name in `.gnu_debuglink`.
    pub(super) name: Option<String>,
}

/// A function that is at an offset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Found {
    /// Its name, demangled.
    pub(super) function: Option<String>,
    /// How far from its start; `None` where that is not known.
    pub(super) offset: Option<u64>,
    /// The source file.
    pub(super) file: Option<String>,
    /// The line in it.
    pub(super) line: Option<u32>,
    /// It is inlined into the next.
    pub(super) inlined: bool,
}

/// The layers that it says its cage lacks; `None` where none of ours says so.
pub(super) fn greeting(mut missing: Vec<Missing>) -> Option<Vec<Missing>> {
    missing.iter_mut().for_each(|missing| missing.reason = cut(std::mem::take(&mut missing.reason)));
    (missing.len() <= Layer::ALL.len()).then_some(missing)
}

/// A response that no symbolizer of ours sends to this request.
pub(super) fn check(request: &Request, response: &Response) -> Result<(), &'static str> {
    let text = |text: &str| text.len() <= MAX_TEXT;
    let optional = |optional: &Option<String>| optional.as_deref().is_none_or(text);
    let good = match (request, response) {
        (_, Response::Error(message)) => text(message),
        (Request::Open { .. }, Response::Opened(links)) => links.build_id.len() <= 64 && optional(&links.name),
        (Request::OpenDebug { .. }, Response::Debug(_)) | (Request::Forget { .. }, Response::Forgotten) => true,
        (Request::Symbolize { offsets, .. }, Response::Frames(all)) => {
            let found = |found: &Found| optional(&found.function) && optional(&found.file);
            all.len() == offsets.len() && all.iter().all(|one| one.len() <= MAX_FRAMES && one.iter().all(found))
        }
        (Request::Functions { .. }, Response::Functions(all)) => {
            all.len() <= MAX_MATCHES && all.iter().all(|one| text(&one.name) && optional(&one.demangled))
        }
        (Request::Symbol { .. }, Response::Symbol(_)) => true,
        (Request::Usdt { .. }, Response::Usdt(all)) => {
            all.len() <= MAX_MATCHES && all.iter().all(|one| text(&one.provider) && text(&one.name) && text(&one.arguments))
        }
        _ => return Err("an answer to something else"),
    };
    if good { Ok(()) } else { Err("an answer out of bounds") }
}

/// `text` with at most [`MAX_TEXT`] bytes.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let mark = "…";
        let mut end = MAX_TEXT - mark.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(mark);
    }
    text
}
