//! The parser takes any text, and says where it is wrong.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_ebpf::syntax::{SyntaxError, parse_body, parse_list, parse_when};

fn check(text: &str, error: Option<SyntaxError>) {
    if let Some(error) = error {
        assert!(error.span.start <= error.span.end && error.span.end <= text.len() + 1, "{error:?} of {text:?}");
    }
}

fuzz_target!(|text: &str| {
    check(text, parse_body(text).err());
    check(text, parse_when(text).err());
    check(text, parse_list(text, 0).err());
});
