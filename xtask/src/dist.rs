//! `cargo xtask dist`: plugins and daemon as they are shipped: static, stripped, in `<target>/dist`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::{bugs, crash, shell};

/// Package, profile. Programs of one kind have a profile of their own, and each is built alone so that no feature the daemon asks of a shared
/// crate gets into a plugin.
const SHIPPED: [(&str, &str); 3] = [("aws-cni", "plugin"), ("egress-cni", "plugin"), ("aws-k8s-agent", "daemon")];

/// Builds, prints sizes.
pub(crate) fn run() -> Result<ExitCode> {
    for program in build()? {
        let bytes = fs::metadata(&program)?.len();
        println!("{:>10} bytes  {:>6.2} MB  {}", bytes, megabytes(bytes), program.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds, and gives where the programs are.
pub(crate) fn build() -> Result<Vec<PathBuf>> {
    let triple = triple()?;
    have_c_compiler(&triple)?;
    have_target(&triple)?;
    let mut programs = Vec::new();
    for (package, profile) in SHIPPED {
        programs.push(one(&triple, package, profile)?);
    }
    Ok(programs)
}

/// The plugin alone. There is no C in it.
pub(crate) fn plugin() -> Result<PathBuf> {
    let triple = triple()?;
    have_target(&triple)?;
    let (package, profile) = SHIPPED[0];
    one(&triple, package, profile)
}

fn one(triple: &str, package: &str, profile: &str) -> Result<PathBuf> {
    shell::must(&mut shell::cargo(["build", "--locked", "--profile", profile, "--target", triple, "-p", package]))?;
    let target = shell::target()?;
    let built = target.join(triple).join(profile).join(package);
    let dist = target.join("dist");
    fs::create_dir_all(&dist).with_context(|| format!("cannot create {}", dist.display()))?;
    let shipped = dist.join(package);
    // A program that runs can not be written to, but it can be replaced.
    let _ = fs::remove_file(&shipped);
    fs::copy(&built, &shipped).with_context(|| format!("cannot copy {} to {}", built.display(), shipped.display()))?;
    must_be_static(&shipped)?;
    bugs::must_have_none(&shipped)?;
    crash::must_have_none(&shipped)?;
    Ok(shipped)
}

/// The musl target of this machine's kind.
pub(crate) fn triple() -> Result<String> {
    match std::env::consts::ARCH {
        arch @ ("x86_64" | "aarch64") => Ok(format!("{arch}-unknown-linux-musl")),
        other => bail!("static programs are built on x86_64 and aarch64, this is {other}"),
    }
}

/// ring, the TLS library's arithmetic, has C in it: it needs a C compiler that knows musl's headers.
fn have_c_compiler(triple: &str) -> Result<()> {
    let variable = format!("CC_{}", triple.replace('-', "_"));
    let known = std::env::var_os(&variable).is_some() || shell::answers("musl-gcc", &["--version"]);
    if !known {
        bail!(
            "no C compiler for musl: install `musl-gcc` (Debian, Ubuntu: apt-get install musl-tools; Fedora: dnf install musl-gcc), \
             or name one in {variable}"
        );
    }
    Ok(())
}

fn have_target(triple: &str) -> Result<()> {
    let listed = Command::new("rustup").args(["target", "list", "--installed"]).current_dir(shell::root()).output();
    match listed {
        Ok(listed) if String::from_utf8_lossy(&listed.stdout).lines().any(|line| line == triple) => Ok(()),
        Ok(_) => shell::must(Command::new("rustup").args(["target", "add", triple]).current_dir(shell::root())),
        Err(_) => {
            eprintln!("rustup is not here: taking it that the toolchain has the target {triple}");
            Ok(())
        }
    }
}

/// A static ELF program asks for no interpreter: it has no program header of type PT_INTERP (3).
fn must_be_static(program: &Path) -> Result<()> {
    let elf = fs::read(program)?;
    let number = |at: usize, bytes: usize| -> Option<usize> {
        let field = elf.get(at..at + bytes)?;
        Some(field.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    // ELF64, little endian: e_phoff at 32 (8 bytes), e_phentsize at 54, e_phnum at 56 (2 bytes each); p_type is first in an entry.
    let (Some(table), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else {
        bail!("{} is not an ELF program", program.display());
    };
    let interpreted = (0..count).any(|entry| number(table + entry * size, 4) == Some(3));
    if interpreted {
        bail!("{} is not static: it asks for an interpreter", program.display());
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a size to look at")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
