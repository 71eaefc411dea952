//! The Python that tests run other people's modules with.

use std::process::{Command, Stdio};

/// The interpreter that `VPC_CNI_PYTHON` names, else `python3`, if it has a module (named as pip names it, too).
/// `Err` is the reason to skip a test with.
///
/// # Errors
/// There is no such interpreter, or it does not have the module.
pub fn python_with(module: &str) -> Result<String, String> {
    let python = std::env::var("VPC_CNI_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = format!("import {module}");
    match Command::new(&python).args(["-c", &import]).stdin(Stdio::null()).output() {
        Err(error) => Err(format!("cannot run {python}: {error}")),
        Ok(output) if !output.status.success() => Err(format!("{python} has no {module} (pip install {module})")),
        Ok(_) => Ok(python),
    }
}
