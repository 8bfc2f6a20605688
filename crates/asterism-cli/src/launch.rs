//! `asterism launch`: a command of this program as several processes of this machine. On CPUs MPI's
//! launcher starts them; for GPUs, which need no MPI, this process does.

mod family;

use super::args::{Cli, LaunchArgs};
use super::error::CliError;
use super::machine::Fact;
use asterism::world::{Carrier, find_mpi};
use clap::Parser;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// What starts processes, by the names that MPI gives it.
const NAMES: [&str; 2] = ["mpirun", "mpiexec"];

/// A launcher of this machine.
struct Launcher {
    path: PathBuf,
    /// The first line of what it says it is.
    version: String,
}

impl Launcher {
    /// The first in PATH that says what it is.
    fn find() -> Option<Self> {
        let paths = std::env::var_os("PATH")?;
        NAMES.iter().find_map(|name| {
            let path =
                std::env::split_paths(&paths).map(|dir| dir.join(name)).find(|p| p.is_file())?;
            let output = Command::new(&path).arg("--version").output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            // MPICH's begins with a heading.
            let version =
                text.lines().map(str::trim).find(|l| !l.is_empty() && !l.ends_with(':'))?;
            Some(Self { version: version.to_owned(), path })
        })
    }

    fn is_open_mpi(&self) -> bool {
        ["Open MPI", "OpenRTE", "PRRTE"].iter().any(|name| self.version.contains(name))
    }
}

/// Runs the command as several processes. Does not return if that goes well.
pub(crate) fn run(args: LaunchArgs) -> Result<(), CliError> {
    let command: Vec<OsString> =
        [OsString::from("asterism")].into_iter().chain(args.command.iter().cloned()).collect();
    // What is wrong with the command it will say itself, once it runs.
    let cli = Cli::try_parse_from(command);
    let carrier = cli.ok().and_then(|cli| cli.command.loads().map(|loads| loads.carrier()));
    match carrier {
        Some(Carrier::Nccl) => family::run(&args),
        _ => by_mpi(args),
    }
}

/// Becomes MPI's launcher, so that its exit code and its signals are this command's.
fn by_mpi(args: LaunchArgs) -> Result<(), CliError> {
    let Some(launcher) = Launcher::find() else {
        let message = format!(
            "no mpirun or mpiexec in PATH: install Open MPI (Debian: openmpi-bin) or MPICH; on one \
             machine --hosts {} does the same with threads",
            args.processes
        );
        return Err(CliError::Usage(message));
    };
    let this = std::env::current_exe().map_err(anyhow::Error::from)?;
    let mut command = Command::new(&launcher.path);
    command.args(["-n", &args.processes.to_string()]);
    if launcher.is_open_mpi() {
        // More ranks than cores are allowed; each uses its share of all cores.
        command.args(["--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"]);
        // Whoever runs this as root means to, as in a container.
        if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
            command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        }
    }
    let error = command.arg(this).args(args.command).exec();
    Err(anyhow::Error::from(error)
        .context(format!("cannot run {}", launcher.path.display()))
        .into())
}

/// What is here of MPI.
pub(crate) fn facts() -> Vec<Fact> {
    let library = match find_mpi() {
        Ok(found) => {
            format!("{} ({}, {} interface)", found.version, found.library, found.abi)
        }
        Err(error) => format!("none: {error}"),
    };
    let launcher = match Launcher::find() {
        Some(Launcher { path, version }) => format!("{}: {version}", path.display()),
        None => "no mpirun or mpiexec in PATH".to_owned(),
    };
    vec![("MPI", library), ("MPI launcher", launcher)]
}
