//! A node's root file system: a tmpfs of its own, the host's file system below it, read-only.
//!
//! ```text
//!   /            tmpfs of at most 2 GiB, new at each boot; the node's own: /run /tmp /app /dev /proc /sys
//!   /usr ...     the host's directories, read-only
//!   /etc /var /opt   the node's own directories, whose entries are links into /.host/{etc,var,opt} (the host's, read-only), but for
//!   /etc/cni /opt/cni /var/lib /var/log   the node's disk: they survive when the power goes
//!   /host/etc/cni/net.d /host/opt/cni/bin /host/var/log   the same directories, where a node daemon's pod has them
//! ```
//!
//! So any daemon and plugin find what they find on a real node, and can harm nothing.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, umount2};
use nix::unistd::{chdir, pivot_root, sethostname};
use serde::{Deserialize, Serialize};

use super::mounts::{MountError, bind, bind_read_only, fresh, read_only};
use crate::topology::{Content, PlacedFile};

/// Directories of the root that are the node's own, or made in a way of their own.
const OWN: [&str; 11] = ["app", "dev", "etc", "host", "lost+found", "opt", "proc", "run", "sys", "tmp", "var"];
/// Directories of the disk, and where they lie in the node.
const DISK: [(&str, &str); 4] =
    [("etc-cni", "etc/cni"), ("opt-cni", "opt/cni"), ("var-lib", "var/lib"), ("var-log", "var/log")];
/// Directories that a node daemon's pod sees below `/host`.
const POD_VIEW: [&str; 3] = ["etc/cni/net.d", "opt/cni/bin", "var/log"];
/// Most bytes of the root, as tmpfs takes it: what runs wild in a node does not take the machine's memory.
const ROOT_SIZE: &str = "2g";
/// Devices every program expects.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What a node's root is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RootPlan {
    /// Host name.
    pub hostname: String,
    /// Empty directory to mount it on.
    pub root: PathBuf,
    /// Directory that is the node's disk.
    pub disk: PathBuf,
    /// Programs shown in `/app`: host path and name.
    pub programs: Vec<(PathBuf, String)>,
    /// Programs of `/app` that `/opt/cni/bin` has too, until somebody installs another one over them.
    pub plugins: Vec<String>,
    /// Files to place.
    pub files: Vec<PlacedFile>,
}

/// A step of making the root that failed.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A mount.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A file or directory.
    #[error("{what} {path}: {cause}")]
    File {
        /// What was done ("make directory").
        what: &'static str,
        /// With which.
        path: String,
        /// Why it failed.
        cause: io::Error,
    },
}

fn file_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RootError {
    let path = path.display().to_string();
    move |cause| RootError::File { what, path, cause }
}

/// Makes the root and moves into it. The caller has a mount, PID and network namespace of its own and is PID 1 in it.
///
/// # Errors
/// The step that failed, and why.
pub fn enter(plan: &RootPlan) -> Result<(), RootError> {
    let root = plan.root.as_path();
    sethostname(&plan.hostname).map_err(|e| file_error("set host name", Path::new(&plan.hostname))(e.into()))?;
    make_dir(root, 0o755)?;
    fresh("tmpfs", root, MsFlags::MS_NOSUID, &format!("mode=0755,size={ROOT_SIZE}"))?;
    show_the_host(root)?;
    for (name, own) in
        [("etc", &["cni", "hostname", "mtab"][..]), ("opt", &["cni"]), ("var", &["lib", "log", "run", "tmp", "lock"])]
    {
        mirror(root, name, own)?;
    }
    own_directories(root)?;
    disk(root, &plan.disk)?;
    devices(&root.join("dev"))?;
    kernel_files(root)?;
    programs(root, plan)?;
    write(&root.join("etc/hostname"), format!("{}\n", plan.hostname).as_bytes(), 0o644)?;
    write(&root.join("run/xtables.lock"), b"", 0o600)?;
    let files = plan.files.iter().map(|file| Ok((file, content(file)?))).collect::<Result<Vec<_>, RootError>>()?;
    pivot(root)?;
    // Only now: on the way to a file may be links (`/var/run`), which before would have led into the host.
    files.into_iter().try_for_each(|(file, bytes)| place(file, &bytes))
}

/// The host's top-level directories, but for those the node has itself.
fn show_the_host(root: &Path) -> Result<(), RootError> {
    let top = Path::new("/");
    for entry in fs::read_dir(top).map_err(file_error("list", top))?.flatten() {
        let name = entry.file_name();
        let (source, target) = (entry.path(), root.join(&name));
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_symlink() {
            copy_link(&source, &target)?;
        } else if kind.is_dir() && !OWN.iter().any(|own| name == *own) {
            make_dir(&target, 0o755)?;
            bind_read_only(&source, &target)?;
        }
    }
    Ok(())
}

/// A directory of the node's own whose entries lead into the host's, but for those the node has itself.
fn mirror(root: &Path, name: &str, own: &[&str]) -> Result<(), RootError> {
    let (host, behind, target) = (Path::new("/").join(name), root.join(".host").join(name), root.join(name));
    make_dir(&target, 0o755)?;
    if !host.is_dir() {
        return Ok(());
    }
    make_dir(&behind, 0o755)?;
    bind_read_only(&host, &behind)?;
    for entry in fs::read_dir(&host).map_err(file_error("list", &host))?.flatten() {
        let entry = entry.file_name();
        if !own.iter().any(|own| entry == *own) {
            let link = target.join(&entry);
            symlink(Path::new("/.host").join(name).join(&entry), &link).map_err(file_error("link", &link))?;
        }
    }
    Ok(())
}

fn own_directories(root: &Path) -> Result<(), RootError> {
    for (name, mode) in [
        ("run", 0o755),
        ("run/lock", 0o1777),
        ("run/netns", 0o755),
        ("tmp", 0o1777),
        ("var/tmp", 0o1777),
        ("app", 0o755),
    ] {
        make_dir(&root.join(name), mode)?;
    }
    for (link, to) in [("var/run", "/run"), ("var/lock", "/run/lock"), ("etc/mtab", "/proc/self/mounts")] {
        let link = root.join(link);
        symlink(to, &link).map_err(file_error("link", &link))?;
    }
    Ok(())
}

/// The disk, and the view of it that a node daemon's pod has.
fn disk(root: &Path, disk: &Path) -> Result<(), RootError> {
    for (name, place) in DISK {
        make_dir(&disk.join(name), 0o755)?;
        make_dir(&root.join(place), 0o755)?;
        bind(&disk.join(name), &root.join(place))?;
    }
    for place in POD_VIEW {
        let (source, target) = (root.join(place), root.join("host").join(place));
        make_dir(&source, 0o755)?;
        make_dir(&target, 0o755)?;
        bind(&source, &target)?;
    }
    Ok(())
}

fn devices(dev: &Path) -> Result<(), RootError> {
    make_dir(dev, 0o755)?;
    fresh("tmpfs", dev, MsFlags::MS_NOSUID, "mode=0755,size=64k")?;
    for name in DEVICES {
        let (source, target) = (Path::new("/dev").join(name), dev.join(name));
        if source.exists() {
            bind_file(&source, &target)?;
        }
    }
    make_dir(&dev.join("shm"), 0o1777)?;
    make_dir(&dev.join("pts"), 0o755)?;
    // Some machines allow no devpts of one's own; then there are no terminals in the node, and nobody needs them.
    if fresh("devpts", &dev.join("pts"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
        .is_ok()
    {
        symlink("pts/ptmx", dev.join("ptmx")).map_err(file_error("link", &dev.join("ptmx")))?;
    }
    for (name, to) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        let link = dev.join(name);
        symlink(Path::new("/proc/self").join(to), &link).map_err(file_error("link", &link))?;
    }
    Ok(())
}

/// `/proc` of the node's processes, and `/sys` of its links.
fn kernel_files(root: &Path) -> Result<(), RootError> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // `ip netns exec` unmounts /sys before it mounts that of the namespace it enters, and the kernel lets a user namespace mount
    // a sysfs only where another one, not read-only at its root, is seen whole: hence the second, at another place.
    for (kind, name) in [("proc", "proc"), ("sysfs", "sys"), ("sysfs", ".host/sys")] {
        let target = root.join(name);
        make_dir(&target, 0o555)?;
        // A machine that hides parts of its own (a container) allows no fresh one; the host's serves, but shows more than the node.
        if fresh(kind, &target, quiet, "").is_err() {
            bind(&Path::new("/").join(kind.trim_end_matches("fs")), &target)?;
        }
        if kind == "sysfs" {
            read_only(&target)?;
        }
    }
    Ok(())
}

/// `/app`: the programs, shown rather than copied, but for those that a placed file stands in for. `/opt/cni/bin` gets links, which
/// an installer can rename over.
fn programs(root: &Path, plan: &RootPlan) -> Result<(), RootError> {
    let replaced = |name: &str| plan.files.iter().any(|file| file.path == Path::new("/app").join(name));
    for (source, name) in plan.programs.iter().filter(|(_, name)| !replaced(name)) {
        let target = root.join("app").join(name);
        fs::File::create(&target).map_err(file_error("create", &target))?;
        bind_read_only(source, &target)?;
    }
    for name in &plan.plugins {
        let link = root.join("opt/cni/bin").join(name);
        match symlink(Path::new("/app").join(name), &link) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(file_error("link", &link)(e)),
            _ => {}
        }
    }
    Ok(())
}

/// What a file is to hold.
fn content(file: &PlacedFile) -> Result<Vec<u8>, RootError> {
    match &file.content {
        Content::Text(text) => Ok(text.clone().into_bytes()),
        Content::HostFile(path) => fs::read(path).map_err(file_error("read", path)),
    }
}

fn place(file: &PlacedFile, bytes: &[u8]) -> Result<(), RootError> {
    let target = Path::new("/").join(&file.path);
    if let Some(parent) = target.parent() {
        make_dir(parent, 0o755)?;
    }
    // What stands there may be a link into the host's own file.
    fs::remove_file(&target).ok();
    write(&target, bytes, file.mode)
}

/// The root becomes `/`; the old one is let go.
fn pivot(root: &Path) -> Result<(), RootError> {
    let step = |result: nix::Result<()>| result.map_err(|e| file_error("move into", root)(e.into()));
    step(chdir(root))?;
    step(pivot_root(".", "."))?;
    step(umount2(".", MntFlags::MNT_DETACH))?;
    step(chdir("/"))
}

fn make_dir(path: &Path, mode: u32) -> Result<(), RootError> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(file_error("make directory", path))?;
    if mode == 0o755 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(file_error("set permissions of", path))
}

fn copy_link(source: &Path, target: &Path) -> Result<(), RootError> {
    let to = fs::read_link(source).map_err(file_error("read link", source))?;
    symlink(to, target).map_err(file_error("link", target))
}

fn bind_file(source: &Path, target: &Path) -> Result<(), RootError> {
    fs::File::create(target).map_err(file_error("create", target))?;
    Ok(bind(source, target)?)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), RootError> {
    fs::write(path, bytes).map_err(file_error("write", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(file_error("set permissions of", path))
}
