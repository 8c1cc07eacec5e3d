//! Needs in plain words.

use portcullis_ebpf::{
    DataClass, Needs,
    needs::{AttachNeed, DataNeed},
};

use super::Risk;
use crate::output::clean;

/// A need in plain words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// How much it gives away.
    pub risk: Risk,
    /// Without a subject: "reads the arguments of what it attaches to (...)".
    pub text: String,
}

/// What a plugin needs, as plain sentences.
pub fn describe(needs: &Needs) -> Vec<Sentence> {
    let mut all = sentences(&needs.attach, &needs.data);
    if needs.data.is_empty() {
        let text = "reads nothing but who runs, where and when (pid, uid, comm, cpu, time)".into();
        all.push(Sentence { risk: Risk::Low, text });
    }
    all
}

/// How many attach points of a probe a sentence names before it counts the rest.
pub(super) const NAMED: usize = 4;

pub(super) fn sentences(points: &[AttachNeed], data: &[DataNeed]) -> Vec<Sentence> {
    let mut by_probe: Vec<(&str, Vec<&str>)> = Vec::new();
    for need in points {
        match by_probe.iter_mut().find(|(probe, _)| *probe == need.probe) {
            Some((_, points)) => points.push(&need.point),
            None => by_probe.push((&need.probe, vec![&need.point])),
        }
    }
    let attach = by_probe.into_iter().map(|(probe, points)| {
        let named = points.iter().take(NAMED).map(|point| clean::line(point)).collect::<Vec<_>>().join(", ");
        let risk = points.iter().map(|point| Risk::of_point(point)).max().unwrap_or(Risk::Low);
        let text = match points.len().checked_sub(NAMED) {
            None | Some(0) => format!("attaches to {named} (probe `{probe}`)"),
            Some(more) => format!("attaches to {} points: {named} and {more} more (probe `{probe}`)", points.len()),
        };
        Sentence { risk, text }
    });
    let data = data.iter().map(|need| {
        let what = class_text(need.class);
        let cause = clean::line(need.text.trim());
        let text = match &need.probe {
            Some(probe) => format!("reads {what} (`{cause}` in probe `{probe}`)"),
            None => format!("reads {what} (it imports `{cause}`)"),
        };
        Sentence { risk: Risk::of_class(need.class), text }
    });
    attach.chain(data).collect()
}

/// A class of data in plain words.
pub(crate) fn class_text(class: DataClass) -> &'static str {
    match class {
        DataClass::Arguments => "the arguments and results of what it attaches to",
        DataClass::UserMemory => "the memory of traced processes",
        DataClass::KernelMemory => "the memory of the kernel",
        DataClass::Stacks => "call stacks",
        DataClass::Process => "facts about processes: who they are, their programs and their command lines",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::tests::needs;

    /// The sentences of `inspect`.
    #[test]
    fn needs_read_as_sentences() {
        let some = needs(
            &[("p", "t:a"), ("p", "t:b"), ("p", "t:c"), ("p", "t:d"), ("p", "t:e"), ("q", "t:a")],
            &[(DataClass::Arguments, "p", "args.count")],
        );
        let texts = |needs: &Needs| describe(needs).into_iter().map(|sentence| sentence.text).collect::<Vec<_>>();
        assert_eq!(
            texts(&some),
            [
                "attaches to 5 points: t:a, t:b, t:c, t:d and 1 more (probe `p`)",
                "attaches to t:a (probe `q`)",
                "reads the arguments and results of what it attaches to (`args.count` in probe `p`)",
            ]
        );
        assert_eq!(
            texts(&needs(&[("q", "t:a")], &[])),
            ["attaches to t:a (probe `q`)", "reads nothing but who runs, where and when (pid, uid, comm, cpu, time)"]
        );
    }
}
