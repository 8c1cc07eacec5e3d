//! What plugins may do.

use super::wrong;

/// Points and classes that are none are refused, with what was meant or why they need no grant.
#[test]
fn no_points_and_classes() {
    wrong(
        "[plugin.grants]\nprobes = [\"openat\"]\nread = [\"argumnets\", \"identity\"]",
        "
`plugin.grants.probes`: `openat` fits no attach point
 --> dir/bundle.toml, line 6, column 11
  |
6 | probes = [\"openat\"]
  |           ^^^^^^^^
  = help: attach points are KIND:TARGET, as `span:syscall:openat` or `tracepoint:sched:*`; `*` is all

`plugin.grants.read`: there is no class `argumnets`
 --> dir/bundle.toml, line 7, column 9
  |
7 | read = [\"argumnets\", \"identity\"]
  |         ^^^^^^^^^^^
  = help: did you mean `arguments`?

`plugin.grants.read`: there is no class `identity`
 --> dir/bundle.toml, line 7, column 22
  |
7 | read = [\"argumnets\", \"identity\"]
  |                      ^^^^^^^^^^
  = help: pid, tid, uid, comm, cpu and times need no grant",
    );
}

/// The same of what is denied.
#[test]
fn nothing_to_deny() {
    wrong(
        "[plugin.grants.deny]\nprobes = [\"openat\"]\nread = [\"identity\"]",
        "
`plugin.grants.deny.probes`: `openat` fits no attach point
 --> dir/bundle.toml, line 6, column 11
  |
6 | probes = [\"openat\"]
  |           ^^^^^^^^
  = help: attach points are KIND:TARGET, as `span:syscall:openat` or `tracepoint:sched:*`; `*` is all

`plugin.grants.deny.read`: there is no class `identity`
 --> dir/bundle.toml, line 7, column 9
  |
7 | read = [\"identity\"]
  |         ^^^^^^^^^^
  = help: pid, tid, uid, comm, cpu and times can't be denied",
    );
}

/// Doors that can't be opened are refused one by one.
#[test]
fn wrong_doors() {
    wrong(
        "[plugin.grants.wasi]\nenviroment = []\nenvironment = [\"A=B\"]\nnetwork = [\"localhost:80\"]\ndirectories = [{ as = \"/a\" }, { path = \"a\" }, { path = \"b\", as = \"a\" }]\n[plugin.grants.deny]\nwasi = [\"net\"]",
        "
unknown key `plugin.grants.wasi.enviroment`
 --> dir/bundle.toml, line 6, column 1
  |
6 | enviroment = []
  | ^^^^^^^^^^
  = help: did you mean `environment`?

`plugin.grants.wasi.environment`: `A=B` is no variable
 --> dir/bundle.toml, line 7, column 16
  |
7 | environment = [\"A=B\"]
  |                ^^^^^
  = help: write the names of variables one by one, as in [\"LANG\", \"TZ\"]; there are no wildcards

`plugin.grants.wasi.network`: `localhost:80`: a name is not an address: who has it is the word of others, and plugins look up no names; write its address
 --> dir/bundle.toml, line 8, column 12
  |
8 | network = [\"localhost:80\"]
  |            ^^^^^^^^^^^^^^

this directory has no `path`
 --> dir/bundle.toml, line 9, column 16
  |
9 | directories = [{ as = \"/a\" }, { path = \"a\" }, { path = \"b\", as = \"a\" }]
  |                ^^^^^^^^^^^^^

the plugin would know two directories as `a`
 --> dir/bundle.toml, line 9, column 47
  |
9 | directories = [{ as = \"/a\" }, { path = \"a\" }, { path = \"b\", as = \"a\" }]
  |                                               ^^^^^^^^^^^^^^^^^^^^^^^^
  = help: give one of them another name by `as`

`plugin.grants.deny.wasi`: there is no door `net`
  --> dir/bundle.toml, line 11, column 9
   |
11 | wasi = [\"net\"]
   |         ^^^^^
   = help: there are `environment`, `network` and `directories`",
    );
}

/// A scope of nobody is refused.
#[test]
fn wrong_scopes() {
    wrong(
        "[plugin.grants.scope]\npid = 0\nuid = -1\nuser = 1",
        "
`plugin.grants.scope.pid` is no process
 --> dir/bundle.toml, line 6, column 7
  |
6 | pid = 0
  |       ^

`plugin.grants.scope.uid` is no user
 --> dir/bundle.toml, line 7, column 7
  |
7 | uid = -1
  |       ^^

unknown key `plugin.grants.scope.user`
 --> dir/bundle.toml, line 8, column 1
  |
8 | user = 1
  | ^^^^
  = help: there are `pid`, `uid` and `cgroup`",
    );
}
