//! Where a server's sockets lie, so that a command finds them by the store's path alone.
//!
//! One folder per user and in it one per store. A folder in `/tmp` could have been put there by anybody, so the user's folder
//! must be a real directory that belongs to the user and is closed to others; else it is not used.

use crate::control::trouble::{Kind, Trouble, kind_of_io};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The longest path of a unix socket.
pub const SOCKET_PATH_MAX: usize = 107;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Of the user.
    root: PathBuf,
    /// Of the store.
    pub dir: PathBuf,
    pub control: PathBuf,
    pub nbd: PathBuf,
}

impl Places {
    /// The store must exist. Nothing is made yet.
    pub fn of(store: &Path) -> Result<Places, Trouble> {
        let canonical = fs::canonicalize(store)
            .map_err(|e| Trouble::new(kind_of_io(&e), format!("opening {}: {e}", store.display())))?;
        Ok(Places::below(&user_root(), &canonical))
    }

    fn below(root: &Path, canonical: &Path) -> Places {
        let name = canonical.file_name().unwrap_or_default().to_string_lossy();
        let name: String = name.chars().take(24).collect();
        let hash = format!("{:016x}", fnv1a(canonical.as_os_str().as_encoded_bytes()));
        let dir = root.join(format!("{name}-{}", &hash[..8]));
        Places { root: root.to_owned(), control: dir.join("control.sock"), nbd: dir.join("nbd.sock"), dir }
    }

    /// Makes the folders, closed to others.
    pub fn make(&self) -> Result<(), Trouble> {
        for dir in [&self.root, &self.dir] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|e| Trouble::new(kind_of_io(&e), format!("making {}: {e}", dir.display())))?;
            check_owner(dir)?;
        }
        Ok(())
    }
}

/// A socket path that the kernel can take.
pub fn check_socket_path(path: &Path) -> Result<(), Trouble> {
    let len = path.as_os_str().len();
    if len <= SOCKET_PATH_MAX {
        return Ok(());
    }
    let what = format!("socket {}: its path has {len} bytes, at most {SOCKET_PATH_MAX} are possible", path.display());
    Err(Trouble::new(Kind::Usage, what).fix("choose a shorter one with --socket and --control"))
}

fn user_root() -> PathBuf {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return "/run/treering".into();
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !dir.is_empty() => Path::new(&dir).join("treering"),
        _ => format!("/tmp/treering-{}", uid.as_raw()).into(),
    }
}

fn check_owner(dir: &Path) -> Result<(), Trouble> {
    let refuse = |what: String| {
        Trouble::new(Kind::NotAllowed, format!("folder {}: {what}", dir.display()))
            .why("sockets in a folder that others may change could be exchanged for theirs.")
            .fix("remove it, or choose other places with --socket and --control")
    };
    let found = fs::symlink_metadata(dir).map_err(|e| refuse(e.to_string()))?;
    let (uid, mode) = (rustix::process::geteuid().as_raw(), found.mode() & 0o7777);
    if !found.is_dir() {
        return Err(refuse("it is not a directory".into()));
    }
    if found.uid() != uid {
        return Err(refuse(format!("it belongs to uid {}, not to {uid}", found.uid())));
    }
    if mode & 0o022 != 0 {
        return Err(refuse(format!("others may write to it (mode {mode:o})")));
    }
    Ok(())
}

/// FNV-1a: names a path for ever, in every version.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn two_stores_of_one_name_have_two_folders() {
        let root = Path::new("/run/user/1/treering");
        let (a, b) = (Places::below(root, Path::new("/a/store")), Places::below(root, Path::new("/b/store")));
        assert_ne!(a.dir, b.dir);
        assert_eq!(a.control, a.dir.join("control.sock"));
        assert_eq!(a.dir, root.join(format!("store-{}", &format!("{:016x}", fnv1a(b"/a/store"))[..8])));
        let long = Places::below(root, Path::new(&format!("/{}", "x".repeat(200))));
        assert!(check_socket_path(&long.control).is_ok());
    }

    #[test]
    fn a_folder_that_others_may_change_is_not_used() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let places = Places::below(&home.path().join("treering"), Path::new("/a/store"));
        places.make().expect("fresh folders are fine");
        assert_eq!(fs::metadata(&places.dir).expect("made").mode() & 0o777, 0o700);
        fs::set_permissions(&places.root, fs::Permissions::from_mode(0o777)).expect("ours");
        let trouble = places.make().expect_err("others may write");
        assert_eq!(trouble.kind, Kind::NotAllowed);
        fs::remove_dir_all(&places.root).expect("ours");
        symlink(home.path(), &places.root).expect("ours");
        assert!(places.make().expect_err("a link").what.contains("is not a directory"));
    }
}
