//! What a plugin is refused, and what to write to grant it.

use std::fmt;

use portcullis_ebpf::{
    Needs,
    needs::{AttachNeed, DataNeed},
};

use super::{GrantedBy, Grants, globs::globs, words::sentences};

/// A plugin needs what it is not granted. Its `Display` says what and why, and then what to write to grant it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    /// The plugin's name.
    pub plugin: String,
    /// The attach points that no grant covers.
    pub points: Vec<AttachNeed>,
    /// The data that no grant covers.
    pub data: Vec<DataNeed>,
    /// What is denied, whatever is granted.
    pub denied: Needs,
    /// What is granted.
    pub grants: Box<Grants>,
}

/// Several plugins need what they are not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"))]
pub struct Refusals(pub Vec<Refused>);

impl Refused {
    /// Some of it is denied, whatever is granted.
    pub fn is_denied(&self) -> bool {
        self.denied != Needs::default()
    }

    /// The grants with which the run would not have been refused.
    pub fn wanted(&self) -> Grants {
        let mut wanted = Grants::clone(&self.grants);
        wanted.probes.extend(globs(&self.points));
        wanted.read.extend(self.data.iter().map(|need| need.class));
        wanted
    }

    fn manifest_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to grant this, write in the bundle, below the `[[plugin]]` that is named \"{}\":\n\n", self.plugin)?;
        write!(f, "    [plugin.grants]")?;
        self.wanted().lines().iter().try_for_each(|line| write!(f, "\n    {line}"))
    }

    fn flags(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to grant this, add to the command line:\n\n   ")?;
        for glob in globs(&self.points) {
            write!(f, " --allow-probes '{}'", glob.replace('\'', r"'\''"))?;
        }
        for need in &self.data {
            write!(f, " --allow-read {}", need.class)?;
        }
        Ok(())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin \"{}\" needs more than it is granted", self.plugin)?;
        for sentence in sentences(&self.points, &self.data) {
            write!(f, "\n  it {}", sentence.text)?;
        }
        for sentence in sentences(&self.denied.attach, &self.denied.data) {
            write!(f, "\n  it {}, which is denied", sentence.text)?;
        }
        if self.is_denied() {
            write!(f, "\nwhat `grants.deny` names stays denied, whatever is granted")?;
        }
        if self.points.is_empty() && self.data.is_empty() {
            return Ok(());
        }
        writeln!(f)?;
        match self.grants.by {
            GrantedBy::Manifest => self.manifest_lines(f),
            GrantedBy::CommandLine | GrantedBy::Author => self.flags(f),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use portcullis_ebpf::DataClass;

    use super::*;
    use crate::{
        grants::{
            Deny, check,
            tests::{granted, needs},
        },
        scope,
    };

    #[track_caller]
    fn refused(needs: &Needs, grants: &Grants, expect: &str) {
        let refused = check("opens", needs, grants).unwrap_err();
        assert_eq!(refused.to_string(), expect);
        // What it proposes grants everything.
        check("opens", needs, &refused.wanted()).unwrap();
    }

    /// A refusal says what is needed where, and the lines that grant it; a point that is granted is not repeated.
    #[test]
    fn a_refusal_proposes_manifest_lines() {
        let needs = needs(
            &[("opens", "span:syscall:open"), ("opens", "span:syscall:openat"), ("reads", "tracepoint:syscalls:sys_enter_read")],
            &[
                (DataClass::Arguments, "opens", "retval"),
                (DataClass::UserMemory, "opens", "str(entry.args.filename)\x1b"),
                (DataClass::KernelMemory, "reads", "curtask"),
            ],
        );
        refused(
            &needs,
            &granted(&["tracepoint:*"], &[DataClass::Arguments], GrantedBy::Manifest),
            r#"plugin "opens" needs more than it is granted
  it attaches to span:syscall:open, span:syscall:openat (probe `opens`)
  it reads the memory of traced processes (`str(entry.args.filename)\x1b` in probe `opens`)
  it reads the memory of the kernel (`curtask` in probe `reads`)
to grant this, write in the bundle, below the `[[plugin]]` that is named "opens":

    [plugin.grants]
    probes = ["tracepoint:*", "span:syscall:open", "span:syscall:openat"]
    read = ["arguments", "user-memory", "kernel-memory"]"#,
        );
    }

    /// A refusal proposes no more than what was asked for: whose hits it gets stays as it is.
    #[test]
    fn a_refusal_keeps_the_scope() {
        let scope = scope::Granted { pid: Some(7), uid: Some("1000".into()), cgroup: Some("a\"b".into()) };
        let grants = Grants { scope, ..granted(&[], &[], GrantedBy::Manifest) };
        let refused = check("p", &needs(&[("p", "t:a")], &[]), &grants).unwrap_err();
        assert!(
            refused.to_string().ends_with("    probes = [\"t:a\"]\n    scope = { pid = 7, uid = 1000, cgroup = \"a\\\"b\" }")
        );
    }

    /// What is denied refuses whatever is granted, is not proposed, and is told apart from what is missing.
    #[test]
    fn what_is_denied_wins() {
        let deny =
            Deny { probes: vec!["kprobe:vfs_*".into()], read: BTreeSet::from([DataClass::KernelMemory]), ..Deny::default() };
        let grants = Grants { deny, ..granted(&["*"], &[DataClass::KernelMemory], GrantedBy::Manifest) };
        let needs = needs(
            &[("files", "fentry:vfs_read"), ("files", "fentry:do_exit")],
            &[(DataClass::Arguments, "files", "args.count"), (DataClass::KernelMemory, "files", "args.file->f_flags")],
        );
        let refused = check("opens", &needs, &grants).unwrap_err();
        assert_eq!(
            refused.to_string(),
            r#"plugin "opens" needs more than it is granted
  it reads the arguments and results of what it attaches to (`args.count` in probe `files`)
  it attaches to fentry:vfs_read (probe `files`), which is denied
  it reads the memory of the kernel (`args.file->f_flags` in probe `files`), which is denied
what `grants.deny` names stays denied, whatever is granted
to grant this, write in the bundle, below the `[[plugin]]` that is named "opens":

    [plugin.grants]
    probes = ["*"]
    read = ["arguments", "kernel-memory"]
    deny = { probes = ["kprobe:vfs_*"], read = ["kernel-memory"] }"#,
        );
        let wanted = refused.wanted();
        let rest = check("opens", &needs, &wanted).unwrap_err();
        assert!(rest.to_string().ends_with("stays denied, whatever is granted"), "{rest}");
    }

    /// For a plugin that is run alone the way out is flags.
    #[test]
    fn a_refusal_proposes_flags() {
        refused(
            &needs(&[("p", "span:syscall:it's")], &[(DataClass::UserMemory, "p", "str(x)")]),
            &granted(&[], &[], GrantedBy::CommandLine),
            r#"plugin "opens" needs more than it is granted
  it attaches to span:syscall:it's (probe `p`)
  it reads the memory of traced processes (`str(x)` in probe `p`)
to grant this, add to the command line:

    --allow-probes 'span:syscall:it'\''s' --allow-read user-memory"#,
        );
    }
}
