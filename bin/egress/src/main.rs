//! `egress-cni`: stands behind `aws-cni` in the reference's list and gives pods a way out in the other address family, if it is on.
//!
//! ```text
//!   enabled: anything but "true"   ADD prints prevResult, every other verb succeeds; nothing is touched
//!   enabled: "true"                ADD, CHECK and STATUS are refused by that key; DEL and GC have nothing to undo and succeed
//! ```
//!
//! It needs IPv6 on pods, which is not offered yet. Until then the program is there so that lists that name it work unchanged.

use std::process::ExitCode;

use vpc_wire::cni::{
    CniError, Command, EgressConf, ErrorCode, Failure, Invocation, PluginLog, check_output, run_program,
};

fn main() -> ExitCode {
    run_program(concat!("egress CNI plugin ", env!("CARGO_PKG_VERSION")), answer)
}

fn answer(invocation: Invocation, input: &[u8]) -> Result<String, Failure> {
    let conf = EgressConf::parse(input)?;
    let version = conf.version;
    serve(&invocation, conf).map_err(|error| Failure { error, version })
}

fn serve(invocation: &Invocation, conf: EgressConf) -> Result<String, CniError> {
    let verb = invocation.command;
    let log = Log { conf: &conf, invocation };
    let suits = verb.must_be_in(conf.version).and_then(|()| conf.must_suit(verb));
    suits.inspect_err(|error| log.open().error(&format!("failed with code {}: {error}", error.code as u32)))?;
    if verb == Command::Add {
        conf.oddities.iter().for_each(|odd| log.open().error(odd));
    }
    if let Some(wrong) = &conf.wrong {
        log.open().error(&format!("{wrong}; taken for \"false\", since the pod is to be deleted"));
    }
    match (verb, conf.enabled) {
        (Command::Add, false) => pass_on(&conf),
        (Command::Add | Command::Check | Command::Status, true) => {
            let error = refused(verb);
            log.open().error(&format!("failed with code {}: {error}", error.code as u32));
            Err(error)
        }
        // What another program of this name has made for the pod is not known here, and a pod that can not be deleted is worse.
        (Command::Del, true) => {
            log.open().warn("`enabled` is `true`: nothing was made by this plugin, so nothing is undone");
            Ok(String::new())
        }
        (Command::Gc, true) | (Command::Del | Command::Check | Command::Status | Command::Gc, false) => {
            Ok(String::new())
        }
        (Command::Version, _) => Ok(vpc_wire::cni::Version::reply()),
    }
}

/// What the plugins before this one did, as it is.
fn pass_on(conf: &EgressConf) -> Result<String, CniError> {
    check_output()?;
    let expected = "expected the result of the plugins before this one in the list";
    match &conf.prev_result {
        Some(Ok(result)) => Ok(result.to_json(conf.version)?),
        Some(Err(why)) => Err(CniError::new(ErrorCode::Decode, format!("{why}: {expected}"))),
        None => Err(CniError::new(ErrorCode::BadConfig, format!("`prevResult` is missing: {expected}"))),
    }
}

fn refused(verb: Command) -> CniError {
    const WHY: &str = "`enabled` is `true`: egress in the other address family needs IPv6 on pods, which is not offered yet; set it to \
                       \"false\" (`ENABLE_V6_EGRESS=false` of the daemon that writes the list)";
    let code = if verb == Command::Status { ErrorCode::NotAvailable } else { ErrorCode::UnsupportedField };
    CniError::new(code, WHY)
}

/// The log, opened only by what has something to say: the plugin is called for every pod, and most often it is off.
struct Log<'a> {
    conf: &'a EgressConf,
    invocation: &'a Invocation,
}

impl Log<'_> {
    fn open(&self) -> PluginLog {
        let about = [("container", self.invocation.container.as_str()), ("verb", self.invocation.command.as_str())];
        PluginLog::open(&self.conf.log_file, self.conf.log_level, "egress-cni", &about)
    }
}
