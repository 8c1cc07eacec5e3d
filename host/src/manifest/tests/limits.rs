//! What plugins may use.

use portcullis_ebpf::Rate;

use super::{HEAD, parse, wrong};

/// Limits that are too low, too high or of no use are refused with what can be.
#[test]
fn wrong_limits() {
    wrong(
        "[plugin.limits]\nmemory = \"64KiB\"\ncall = \"1us\"\nring = \"3MiB\"\nattach-points = 0",
        "
`plugin.limits.memory` must be between 1MiB and 4GiB
 --> dir/bundle.toml, line 6, column 10
  |
6 | memory = \"64KiB\"
  |          ^^^^^^^

`plugin.limits.call` must be between 1ms and 10m
 --> dir/bundle.toml, line 7, column 8
  |
7 | call = \"1us\"
  |        ^^^^^

`plugin.limits.ring` must be a power of two between 4KiB and 1GiB
 --> dir/bundle.toml, line 8, column 8
  |
8 | ring = \"3MiB\"
  |        ^^^^^^
  = help: did you mean \"4MiB\"?

`plugin.limits.attach-points` must be between 1 and 100000
 --> dir/bundle.toml, line 9, column 17
  |
9 | attach-points = 0
  |                 ^",
    );
}

/// A rate allows as much at once as in a second unless told; one of nothing or of more than can be is none, and a burst is of a rate.
#[test]
fn rates() {
    let rate = |limits: &str| parse(&format!("{HEAD}[plugin.limits]\n{limits}")).unwrap().plugins[0].limits.rate;
    assert_eq!(rate(""), None);
    assert_eq!(rate("rate = 300"), Some(Rate { a_second: 300, burst: 300 }));
    assert_eq!(rate("rate = 1\nburst = 1_000_000_000"), Some(Rate { a_second: 1, burst: 1_000_000_000 }));
    wrong(
        "[plugin.limits]\nrate = 0\nburst = 1_000_000_001",
        "
`plugin.limits.rate` must be between 1 and 1000000000
 --> dir/bundle.toml, line 6, column 8
  |
6 | rate = 0
  |        ^
  = help: without `rate` no hit is shed

`plugin.limits.burst` must be between 1 and 1000000000
 --> dir/bundle.toml, line 7, column 9
  |
7 | burst = 1_000_000_001
  |         ^^^^^^^^^^^^^
  = help: without `burst` as many come at once as `rate` says",
    );
    wrong(
        "[plugin.limits]\nrate = \"10/s\"",
        "
`plugin.limits.rate` must be a number, and this is a string
 --> dir/bundle.toml, line 6, column 8
  |
6 | rate = \"10/s\"
  |        ^^^^^^",
    );
    wrong(
        "[plugin.limits]\nburst = 5",
        "
`plugin.limits.burst` goes with `rate`, and there is none
 --> dir/bundle.toml, line 6, column 9
  |
6 | burst = 5
  |         ^
  = help: `rate` is how many a second, and `burst` how many of them may come at once",
    );
}
