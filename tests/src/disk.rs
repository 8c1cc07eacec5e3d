//! A disk of the test's own: a file behind a loop device.

use std::{
    fs::{self, File},
    io::{Error, Result},
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The device. Dropping it gives it back.
#[derive(Debug)]
pub struct Disk {
    /// Its file, and where it is mounted, are in there.
    directory: tempfile::TempDir,
    device: PathBuf,
    mounted: bool,
}

impl Disk {
    /// A disk of so many bytes, empty.
    ///
    /// # Errors
    /// This machine has no loop devices, or not the program that makes them.
    pub fn new(bytes: u64) -> Result<Disk> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("disk");
        File::create(&file)?.set_len(bytes)?;
        let output = run(Command::new("losetup").args(["--find", "--show"]).arg(&file))?;
        let device = String::from_utf8(output.stdout).map_err(Error::other)?;
        Ok(Disk { directory, device: device.trim_end().into(), mounted: false })
    }

    /// Makes a file system on it and mounts it.
    ///
    /// # Errors
    /// This machine has not the file system, or not the program that makes it.
    pub fn mount(&mut self) -> Result<PathBuf> {
        run(Command::new("mkfs.ext4").arg("-q").arg(&self.device))?;
        let place = self.directory.path().join("mounted");
        fs::create_dir(&place)?;
        run(Command::new("mount").arg(&self.device).arg(&place))?;
        self.mounted = true;
        Ok(place)
    }

    /// The device's file.
    pub fn device(&self) -> &Path {
        &self.device
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = run(Command::new("umount").arg(&self.device));
        }
        let _ = run(Command::new("losetup").arg("--detach").arg(&self.device));
    }
}

fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().map_err(|e| Error::new(e.kind(), format!("{}: {e}", command.get_program().display())))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::other(format!("{}: {said}", command.get_program().display())));
    }
    Ok(output)
}
