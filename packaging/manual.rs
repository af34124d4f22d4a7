//! Writes the manual pages and the shells' completions, in the words of `--help`: `cargo run --example manual -- FOLDER`.

use std::{
    env, fs,
    io::{self, Write},
    path::PathBuf,
};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use headwater::cli::Cli;

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from).ok_or_else(|| io::Error::other("name a folder to write to"))?;
    fs::create_dir_all(&folder)?;
    let command = packaged();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command.clone(), "headwater", &folder)?;
    }
    clap_mangen::generate_to(command, &folder)?;
    fs::OpenOptions::new().append(true).open(folder.join("headwater.1"))?.write_all(FILES_AND_ENVIRONMENT.as_bytes())
}

/// What a command line does not know of itself. Source: man-pages(7), on the sections and their order.
const FILES_AND_ENVIRONMENT: &str = r#".SH ENVIRONMENT
.TP
\fBHEADWATER_CONFIG\fR
The configuration, a file or a fleet's folder, where the command line names none; without it /etc/headwater.
.TP
\fBHEADWATER__\fITABLE\fB__\fIKEY\fR
A setting, over what the files say, such as HEADWATER__DEVICE__ID=gw-0042.
.TP
\fBHEADWATER_LOG\fR
What is logged, such as debug,rumqttc=warn.
.TP
\fBCREDENTIALS_DIRECTORY\fR
Set by systemd: the folder of files that settings name as $CREDENTIALS_DIRECTORY/\fINAME\fR.
.TP
\fBAWS_ACCESS_KEY_ID\fR, \fBAWS_SECRET_ACCESS_KEY\fR and their companions
As every tool of AWS reads them, with credentials of kind "default".
.SH FILES
.TP
\fI/etc/headwater/\fR
The configuration, gateway.toml or a fleet's folder, with certificates, keys and passwords. Root writes, the group headwater reads.
.TP
\fI/etc/headwater/environment\fR
The environment of headwater.service.
.TP
\fI/var/lib/headwater/\fR
The buffer: readings that have not arrived yet.
.TP
\fI/run/headwater/headwater.sock\fR
The running agent's socket, for \fBheadwater status\fR.
.TP
\fI/etc/headwater-\fINAME\fI/\fR, \fI/var/lib/headwater-\fINAME\fI/\fR
Those of headwater@\fINAME\fR.service, one of several agents on a board.
.TP
\fI/usr/share/doc/headwater/examples/\fR
Every setting with its meaning and default, a fleet, drop-ins for systemd and mosquitto, and the AWS side.
"#;

/// The command line of the package, which has no demo.
fn packaged() -> Command {
    let all = Cli::command();
    let about = all.get_long_about().map(ToString::to_string).unwrap_or_default();
    let about: Vec<_> = about.split("\n\n").filter(|paragraph| !paragraph.contains("headwater demo")).collect();
    Command::new("headwater")
        .version(env!("CARGO_PKG_VERSION"))
        .about(all.get_about().cloned().unwrap_or_default())
        .long_about(about.join("\n\n"))
        .after_help(all.get_after_help().cloned().unwrap_or_default())
        .subcommand_required(true)
        .subcommands(all.get_subcommands().filter(|command| command.get_name() != "demo").cloned())
}
