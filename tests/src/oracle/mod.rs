//! What the language's expressions and statements give, twice: by programs in the kernel, and by an interpreter that knows nothing of
//! the compiler. A disagreement is a bug of one of them, or of the reference.
//!
//! | room | what |
//! |---|---|
//! | `tree` | expressions and statements as data, and their text in the probe language |
//! | `interpret` | what they give, by the reference (docs/probe-language.md) |
//! | `generate` | any number of them, and of inputs |
//! | `door` | programs of `begin` in the kernel, run on demand, and their maps |

pub mod door;
pub mod generate;
pub mod interpret;
pub mod tree;
