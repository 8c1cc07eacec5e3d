//! The globs that are proposed for attach points that are not granted.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_ebpf::needs::AttachNeed;

use super::words::NAMED;

/// The fewest globs that grant all points and say something: single points while they are few, else what they have in common.
pub(super) fn globs(points: &[AttachNeed]) -> Vec<String> {
    let mut by_probe: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for need in points {
        by_probe.entry(&need.probe).or_default().insert(&need.point);
    }
    let mut all: Vec<String> = Vec::new();
    for points in by_probe.values() {
        let mut globs = Vec::new();
        propose(&points.iter().copied().collect::<Vec<_>>(), 0, &mut globs);
        for glob in globs {
            if !all.contains(&glob) {
                all.push(glob);
            }
        }
    }
    all
}

/// Proposes globs for sorted `points`, which agree in the first `at` bytes, one level of `:` at a time.
fn propose(points: &[&str], at: usize, globs: &mut Vec<String>) {
    if points.len() <= NAMED {
        globs.extend(points.iter().map(ToString::to_string));
        return;
    }
    let mut levels: Vec<(usize, Vec<&str>)> = Vec::new();
    for point in points {
        let level = point[at..].find(':').map_or(point.len(), |colon| at + colon + 1);
        match levels.last_mut() {
            Some((end, same)) if same[0].get(..*end) == point.get(..level) => same.push(point),
            _ => levels.push((level, vec![point])),
        }
    }
    if levels.len() <= NAMED && levels.iter().all(|(end, same)| same.len() == 1 || *end > at) {
        return levels.iter().for_each(|(end, same)| propose(same, *end, globs));
    }
    let (first, last) = (points[0], points[points.len() - 1]);
    // Sorted: what the first and the last have in common, all have.
    let common = first.char_indices().zip(last.chars()).find(|((_, a), b)| a != b).map_or(first.len(), |((at, _), _)| at);
    globs.push(format!("{}*", &first[..common]));
}

#[cfg(test)]
mod tests {
    use portcullis_ebpf::attach::glob;

    use super::*;

    /// Many points are proposed by what they have in common, few one by one, each kind for itself.
    #[test]
    fn many_points_become_globs() {
        let many = |prefix: &str, names: &[&str]| names.iter().map(|name| format!("{prefix}{name}")).collect::<Vec<_>>();
        for (points, expect) in [
            (many("tracepoint:syscalls:sys_enter_", &["a", "b", "c", "d", "e", "f"]), vec!["tracepoint:syscalls:sys_enter_*"]),
            (
                [many("span:syscall:", &["a", "b"]), many("tracepoint:sched:", &["k", "l", "m", "n", "o"])].concat(),
                vec!["span:syscall:a", "span:syscall:b", "tracepoint:sched:*"],
            ),
            (many("tracepoint:", &["a:x", "b:x", "c:x", "d:x", "e:x"]), vec!["tracepoint:*"]),
            (many("rawtracepoint:", &["sys", "sys_a", "sys_b", "sys_c", "sys_d"]), vec!["rawtracepoint:sys*"]),
            (many("", &["a:1", "b:1", "c:1", "d:1", "e:1"]), vec!["*"]),
            (many("", &["é:1", "è:1", "ê:1", "ë:1", "e:1"]), vec!["*"]),
        ] {
            let needs: Vec<_> = points.into_iter().map(|point| AttachNeed { point, probe: "p".into() }).collect();
            assert_eq!(globs(&needs), expect);
            for need in needs {
                assert!(expect.iter().any(|pattern| glob::matches(pattern, &need.point)), "{} of {expect:?}", need.point);
            }
        }
    }
}
