//! What is asked of cages.

use std::path::Path;

use super::{HEAD, parse};
use crate::{
    cage::{Layers, Sandbox, User},
    manifest::{Manifest, ManifestError},
};

/// What is asked of cages, in each of its forms; the command line has the last word on the layers and none on the user.
#[test]
fn sandboxes() {
    let check = |toml: &str, expect: Sandbox| {
        let manifest = parse(&HEAD.replacen("[[plugin]]", &format!("sandbox = {toml}\n[[plugin]]"), 1)).unwrap();
        assert_eq!((manifest.sandbox, manifest.plugins[0].sandbox), (expect, expect), "{toml}");
    };
    let (available, required) = (Layers::Available, Layers::Required);
    check("\"available\"", Sandbox { layers: available, user: None });
    check("\"required\"", Sandbox { layers: required, user: None });
    check("{}", Sandbox::default());
    check("{ layers = \"required\" }", Sandbox { layers: required, user: None });
    let user = |uid, gid| Some(User { uid, gid });
    check("{ uid = 4242 }", Sandbox { layers: available, user: user(4242, 4242) });
    check("{ uid = 4242, gid = 17, layers = \"required\" }", Sandbox { layers: required, user: user(4242, 17) });
    let mut manifest = parse(&HEAD.replacen("[[plugin]]", "sandbox = { uid = 4242 }\n[[plugin]]", 1)).unwrap();
    manifest.require(required);
    let expect = Sandbox { layers: required, user: user(4242, 4242) };
    assert_eq!((manifest.sandbox, manifest.plugins[0].sandbox), (expect, expect));
}

/// What can't be asked of cages is told where it stands.
#[test]
fn wrong_sandboxes() {
    let check = |toml: &str, expect: &[(&str, usize, Option<&str>)]| {
        let text = HEAD.replacen("[[plugin]]", &format!("sandbox = {toml}\n[[plugin]]"), 1);
        let line = text.lines().position(|line| line.starts_with("sandbox")).unwrap() + 1;
        let Err(ManifestError::Wrong { problems, .. }) = Manifest::parse(&text, Path::new("bundle.toml")) else {
            panic!("{toml}")
        };
        let found: Vec<_> = problems.iter().map(|found| (found.message.as_str(), found.column, found.help.as_deref())).collect();
        assert_eq!(found, expect, "{toml}");
        assert!(problems.iter().all(|problem| problem.line == line), "{toml}");
    };
    let there_are = "there are `available` and `required`";
    check("\"requird\"", &[("`sandbox` can't be `requird`", 11, Some("did you mean `required`?"))]);
    check("\"off\"", &[("`sandbox` can't be `off`", 11, Some(there_are))]);
    check("true", &[("`sandbox` must be a string or a table, and this is a boolean", 11, None)]);
    check("{ layers = \"none\" }", &[("`sandbox.layers` can't be `none`", 22, Some(there_are))]);
    let own = "leave it out, and each worker gets one of its own";
    check("{ uid = 0 }", &[("`sandbox.uid` is 0, that is root", 19, Some(own))]);
    check("{ uid = 1, gid = 0 }", &[("`sandbox.gid` is 0, that is root", 28, Some(own))]);
    check("{ uid = 4294967295 }", &[("`sandbox.uid` must be between 1 and 4294967294", 19, None)]);
    let both = "write `uid` as well; without it each worker gets a user and a group of its own";
    check("{ gid = 5 }", &[("`sandbox.gid` is the group of `sandbox.uid`, which is not there", 19, Some(both))]);
    check("{ user = 5 }", &[("unknown key `sandbox.user`", 13, Some("there are `layers`, `uid` and `gid`"))]);
}
