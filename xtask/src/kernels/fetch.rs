//! Kernels from Debian's packages, into `target/kernels`. Suites that this machine does not use are reached with sources and lists
//! of our own; nothing of the machine's is changed.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    place::Place,
    process::{command, output, run, say},
    tools::once,
};

/// A kernel that is here.
pub(crate) struct Kernel {
    /// As [`SERIES`] has it.
    pub(crate) series: &'static str,
    /// What a machine boots.
    pub(crate) image: PathBuf,
}

/// The kernels, and the versions that each may be, the first that there is: extended regular expressions. Of these the newest.
pub(crate) const SERIES: [(&str, &[&str]); 4] =
    [("5.10", &[r"5\.10"]), ("6.1", &[r"6\.1"]), ("6.12", &[r"6\.12"]), ("7.2", &[r"7\.2", r"[0-9]+\.[0-9]+"])];
/// Debian's suites that have them, and whether they are those of its security archive.
const SUITES: [(&str, bool); 5] =
    [("bullseye", false), ("bullseye-security", true), ("bookworm", false), ("trixie", false), ("sid", false)];
/// The keys that all suites are signed with.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Names the mirror, `http://HOST/debian`, where the machine's own configuration has none of Debian.
const MIRROR: &str = "PORTCULLIS_DEBIAN_MIRROR";

/// Every kernel of [`SERIES`], fetched where it is not here.
pub(crate) fn all(place: &Place) -> Result<Vec<Kernel>> {
    let apt = Apt { root: place.target.join("kernels/apt"), updated: Cell::new(false) };
    SERIES.iter().map(|(series, versions)| one(place, &apt, series, versions)).collect()
}

fn one(place: &Place, apt: &Apt, series: &'static str, versions: &[&str]) -> Result<Kernel> {
    let root = place.target.join("kernels").join(series);
    once(&root, |root| {
        apt.update(place)?;
        let package = apt.newest(versions)?.with_context(|| format!("Debian has no kernel {series}"))?;
        run(apt.command("apt-get", root).args(["-qq", "download", &package]))?;
        let archive = find(root, &|name| name.ends_with(".deb"))?.context("apt-get downloaded nothing")?;
        run(command("dpkg-deb", root).arg("-x").arg(&archive).arg("."))?;
        fs::remove_file(&archive).with_context(|| format!("can't remove {}", archive.display()))
    })
    .with_context(|| format!("Linux {series} can't be had"))?;
    let image = find(&root, &|name| name.starts_with("vmlinuz"))?;
    let image = image.with_context(|| format!("there is no kernel in {}", root.display()))?;
    say(&format!("Linux {series}: {}", image.strip_prefix(&place.target).unwrap_or(&image).display()));
    Ok(Kernel { series, image })
}

/// The first file in a directory tree whose name fits.
pub(crate) fn find(directory: &Path, fits: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("can't list {}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && !path.is_symlink() {
            if let Some(found) = find(&path, fits)? {
                return Ok(Some(found));
            }
        } else if path.file_name().is_some_and(|name| fits(&name.to_string_lossy())) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// apt with sources, lists and caches of our own, for which it needs no privilege.
struct Apt {
    root: PathBuf,
    updated: Cell<bool>,
}

impl Apt {
    fn command(&self, program: &str, directory: &Path) -> Command {
        let mut command = command(program, directory);
        command.env("APT_CONFIG", self.root.join("apt.conf"));
        command
    }

    /// Reads what the suites have, once.
    fn update(&self, place: &Place) -> Result<()> {
        if self.updated.get() {
            return Ok(());
        }
        for program in ["/usr/bin/apt-get", "/usr/bin/dpkg-deb"] {
            if !Path::new(program).exists() {
                bail!("the kernels are Debian's packages, and there is no {program}");
            }
        }
        for directory in ["lists/partial", "cache/archives/partial"] {
            let directory = self.root.join(directory);
            fs::create_dir_all(&directory).with_context(|| format!("can't create {}", directory.display()))?;
        }
        for (name, text) in
            [("apt.conf", configuration(&self.root)), ("sources.list", sources(&mirrors(place)?, Path::new(KEYS).exists()))]
        {
            let file = self.root.join(name);
            fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))?;
        }
        // A suite may be gone where its kernel is still in another.
        if let Err(error) = run(self.command("apt-get", &place.root).args(["-qq", "update"])) {
            say(&format!("warning: {error:#}"));
        }
        self.updated.set(true);
        Ok(())
    }

    /// The newest package of the first series that has one.
    fn newest(&self, series: &[&str]) -> Result<Option<String>> {
        for series in series {
            // `linux-image` or, where that only depends on it, `linux-binary`; no backports, which are `-0.debN`.
            let pattern = format!(r"^linux-(image|binary)-{series}\.[0-9]+(-[0-9]+|\+deb[0-9]+)-cloud-amd64$");
            let list = output(self.command("apt-cache", &self.root).args(["search", "--names-only", &pattern]))?;
            let packages = list.lines().filter_map(|line| line.split_whitespace().next());
            if let Some(package) = newest(packages) {
                return Ok(Some(package.to_owned()));
            }
        }
        Ok(None)
    }
}

/// Debian's mirror, and that of its security archive.
struct Mirrors {
    main: String,
    security: String,
}

/// Those of the machine's own configuration.
fn mirrors(place: &Place) -> Result<Mirrors> {
    if let Ok(main) = std::env::var(MIRROR) {
        return Ok(Mirrors { security: format!("{}-security", main.trim_end_matches('/')), main });
    }
    let mut targets = command("apt-get", &place.root);
    targets.args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages", "Component: main"]);
    let targets = output(&mut targets)?;
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    own_mirrors(&release, &targets)
        .with_context(|| format!("this machine's apt knows no mirror of Debian; {MIRROR}=http://HOST/debian names one"))
}

/// From os-release(5), and lines `SUITE URI`.
fn own_mirrors(release: &str, targets: &str) -> Option<Mirrors> {
    let value =
        |key: &str| release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(|v| v.trim_matches('"'));
    if value("ID") != Some("debian") {
        return None;
    }
    let codename = value("VERSION_CODENAME");
    let all: Vec<(&str, &str)> = targets.lines().filter_map(|line| line.split_once(' ')).collect();
    let of = |suite: &dyn Fn(&str) -> bool| all.iter().find(|(name, _)| suite(name)).map(|(_, uri)| (*uri).to_owned());
    let main = of(&|suite| Some(suite) == codename).or_else(|| of(&|suite| !suite.contains('-')))?;
    let security = of(&|suite| suite.ends_with("-security"));
    Some(Mirrors { security: security.unwrap_or_else(|| format!("{}-security", main.trim_end_matches('/'))), main })
}

/// apt.conf(5): the only sources are ours, and all that is written is below `root`.
fn configuration(root: &Path) -> String {
    let at = |name: &str| root.join(name).display().to_string();
    let options = [
        ("Dir::Etc::sourcelist", at("sources.list")),
        ("Dir::Etc::sourceparts", "-".to_owned()),
        ("Dir::State::lists", at("lists")),
        ("Dir::Cache", at("cache")),
        ("Acquire::Languages", "none".to_owned()),
        // Where nothing answers, say so soon.
        ("Acquire::Retries", "1".to_owned()),
        ("Acquire::http::Timeout", "20".to_owned()),
    ];
    options.map(|(name, value)| format!("{name} \"{value}\";\n")).concat()
}

/// sources.list(5).
fn sources(mirrors: &Mirrors, keys: bool) -> String {
    let keys = if keys { format!("signed-by={KEYS} ") } else { String::new() };
    let line = |(suite, security): &(&str, bool)| {
        let mirror = if *security { &mirrors.security } else { &mirrors.main };
        format!("deb [arch=amd64 {keys}target=Packages] {mirror} {suite} main\n")
    };
    SUITES.iter().map(line).collect()
}

/// The numbers in a name, by which versions are ordered.
pub(super) fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// The package with the greatest numbers in its name; `linux-binary` before `linux-image`, which then depends on it.
fn newest<'a>(packages: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    packages.max_by_key(|name| (numbers(name), name.starts_with("linux-binary-")))
}

#[cfg(test)]
mod tests {
    use super::{Mirrors, newest, own_mirrors, sources};

    /// Numbers count as numbers, and the package that has the kernel before the one that depends on it.
    #[test]
    fn newest_package() {
        let check = |packages: &[&str], expect: Option<&str>| assert_eq!(newest(packages.iter().copied()), expect);
        check(&[], None);
        check(
            &["linux-image-5.10.0-46-cloud-amd64", "linux-image-5.10.0-9-cloud-amd64"],
            Some("linux-image-5.10.0-46-cloud-amd64"),
        );
        check(
            &[
                "linux-image-7.2.9+deb14-cloud-amd64",
                "linux-binary-7.2.13+deb14-cloud-amd64",
                "linux-image-7.2.13+deb14-cloud-amd64",
            ],
            Some("linux-binary-7.2.13+deb14-cloud-amd64"),
        );
    }

    /// The mirror is that of the machine's own suite; another distribution has none.
    #[test]
    fn mirrors() {
        let check = |release: &str, targets: &str, expect: Option<(&str, &str)>| {
            let found = own_mirrors(release, targets);
            assert_eq!(found.as_ref().map(|m| (m.main.as_str(), m.security.as_str())), expect);
        };
        let debian = "ID=debian\nVERSION_CODENAME=bookworm\n";
        check(debian, "x m:/x\nbookworm m:/d/\nbookworm-security m:/s\n", Some(("m:/d/", "m:/s")));
        check(debian, "x m:/x/\n", Some(("m:/x/", "m:/x-security")));
        check(debian, "x-y m:/x\n", None);
        check("ID=ubuntu\nVERSION_CODENAME=noble\n", "noble m:/u\n", None);
        let lines = sources(&Mirrors { main: "m:/d".into(), security: "m:/s".into() }, false);
        assert!(lines.contains("deb [arch=amd64 target=Packages] m:/s bullseye-security main\n"), "{lines}");
        assert!(lines.contains("] m:/d sid main\n"), "{lines}");
    }
}
