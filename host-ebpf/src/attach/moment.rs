//! `begin` and `end`: the host runs these itself, once, directly after the opening and directly before the close.

use super::{AttachError, ContextKind, Kind, Listed, Site, Target, Whose};
use crate::{
    kernel::{Kernel, SourceError},
    output::{Hook, Moment},
};

pub(super) struct Begin;
pub(super) struct End;

impl Kind for Begin {
    fn names(&self) -> &'static [&'static str] {
        &["begin", "BEGIN"]
    }

    fn notation(&self) -> &'static str {
        "begin"
    }

    fn lacking(&self, rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
        lacking(rest, kernel)
    }

    fn expand(&self, rest: &str, _: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        target("begin", Moment::Begin, rest)
    }

    fn list(&self, _: &str, _: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(vec![Listed { point: "begin".to_owned(), arguments: Vec::new(), retval: None }])
    }
}

impl Kind for End {
    fn names(&self) -> &'static [&'static str] {
        &["end", "END"]
    }

    fn notation(&self) -> &'static str {
        "end"
    }

    fn lacking(&self, rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
        lacking(rest, kernel)
    }

    fn expand(&self, rest: &str, _: &dyn Kernel) -> Result<Vec<Target>, AttachError> {
        target("end", Moment::End, rest)
    }

    fn list(&self, _: &str, _: &dyn Kernel) -> Result<Vec<Listed>, SourceError> {
        Ok(vec![Listed { point: "end".to_owned(), arguments: Vec::new(), retval: None }])
    }
}

fn lacking(rest: &str, kernel: &dyn Kernel) -> Option<AttachError> {
    let message = "this kernel can't run a program at such a moment (BPF_PROG_TEST_RUN of raw tracepoints, since Linux 5.10)";
    (!kernel.features().moments).then(|| AttachError::missing(0..rest.len(), message))
}

fn target(kind: &str, moment: Moment, rest: &str) -> Result<Vec<Target>, AttachError> {
    if !rest.is_empty() {
        return Err(AttachError::wrong(0..rest.len(), format!("`{kind}` has nothing behind it")).help(format!("just `{kind}`")));
    }
    let site = Site { whose: Whose::Host, ..Site::new(Hook::Host(moment), ContextKind::Nothing, "") };
    Ok(vec![Target { point: kind.to_owned(), site, entry: None, key: None }])
}
