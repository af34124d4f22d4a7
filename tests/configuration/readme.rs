//! What the README's chapter "On a gateway" has people type, on programs that stand for AWS and for boards.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    process::{Command, ExitCode, Output, Stdio},
};

use headwater::{
    cli::check::{CheckArgs, check},
    config,
};
use tempfile::TempDir;

/// A computer with a shell, and nothing behind the programs that its commands call.
struct Desk(TempDir);

/// Stands for each of them.
const PROGRAM: &str = r#"#!/bin/sh
name=${0##*/}
case $name in
aws)
    printf '%s\0' "$@" '' >>"$DESK/calls"
    case "$*" in
    *create-certificate-from-csr*) echo "arn:aws:iot:eu-west-1:123456789012:cert/ab12" ;;
    *create-security-group*) echo sg-0123 ;;
    *create-vpc-endpoint*) echo vpce-0123 ;;
    *get-caller-identity*) echo 123456789012 ;;
    esac
    while [ $# -gt 1 ]; do
        [ "$1" != --certificate-pem-outfile ] || echo "a certificate" >"$2"
        shift
    done ;;
sudo) [ "$1" != -u ] || shift 2; exec "$@" ;;
ssh) shift; exec sh -c "$*" ;;
hostnamectl) echo "$2" >"$DESK/board/etc/hostname" ;;
esac
[ "$name" != "${FAILS:-}" ]
"#;
const PROGRAMS: [&str; 8] = ["aws", "chown", "headwater", "hostnamectl", "make", "ssh", "sudo", "systemctl"];

impl Desk {
    fn new() -> Self {
        let desk = Self(TempDir::new().unwrap());
        for folder in ["bin", "board/etc/headwater", "target/release"] {
            fs::create_dir_all(desk.path(folder)).unwrap();
        }
        fs::write(desk.path("board/etc/hosts"), "127.0.0.1 localhost\n127.0.1.1\traspberrypi\n").unwrap();
        let program = desk.path("program");
        fs::write(&program, PROGRAM).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        for name in PROGRAMS.map(|name| desk.path("bin").join(name)).into_iter().chain([desk.path("target/release/headwater")]) {
            symlink(&program, name).unwrap();
        }
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Types `commands` into a shell; what they do on a board is done in a folder. Returns what they print; one of the programs `fails`.
    fn types(&self, commands: &str, fails: &str) -> String {
        let commands = commands.replace("/etc/", &format!("{}/", self.path("board/etc").display()));
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-euc", &commands]).current_dir(self.0.path()).stdin(Stdio::null());
        let ran = shell.env("PATH", path).env("DESK", self.0.path()).env("FAILS", fails).output();
        let Output { status, stdout, stderr } = ran.unwrap();
        assert!(status.success(), "{commands}\n{status}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// How often this command of the AWS CLI was called.
    fn calls(&self, command: &str) -> usize {
        self.text("calls").split("\0\0").filter(|call| call.contains(command)).count()
    }
}

fn readme() -> String {
    fs::read_to_string("README.md").unwrap()
}

/// The blocks of the README in this language.
fn blocks(language: &str) -> Vec<String> {
    let begins = format!("```{language}\n");
    readme().split(&begins).skip(1).map(|rest| rest.split_once("```").unwrap().0.to_owned()).collect()
}

/// The first of them that has this in it.
fn block_with(language: &str, text: &str) -> String {
    blocks(language).into_iter().find(|block| block.contains(text)).unwrap()
}

#[test]
fn aws_knows_every_command_of_the_readme_and_takes_them_in_that_order() {
    let desk = Desk::new();
    fs::write(desk.path("boards"), "gw-1 10.20.0.1\n").unwrap();
    let readme = readme();
    let in_lines = readme.split('`').filter(|span| span.starts_with("aws ") && !span.contains('\n'));
    let in_blocks = blocks("sh").into_iter().filter(|block| block.contains("aws "));
    let typed: Vec<_> = in_blocks.chain(in_lines.map(str::to_owned)).collect();
    assert!(typed.len() > 5, "{typed:#?}");

    for commands in typed {
        let says = desk.types(&commands, "");
        assert!(!says.contains("not done"), "{says}");
    }

    let python = "target/tools/venv/bin/python";
    let mut check = Command::new(python);
    check.arg("tests/emulator/aws_commands.py").stdin(File::open(desk.path("calls")).unwrap());
    let checked = check.output().unwrap_or_else(|error| panic!("{python}: {error}; run `make tools` once"));
    let says = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && says.is_empty(), "{says}{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn what_was_not_done_for_one_of_a_hundred_boards_is_done_by_a_repetition_and_nothing_is_done_twice() {
    let desk = Desk::new();
    fs::write(desk.path("boards"), "gw-1 10.20.0.1\n").unwrap();
    let commands = block_with("sh", "done <boards");
    let not_done = "gw-1: not done\n";

    assert_eq!(desk.types(&commands, "hostnamectl"), not_done);
    assert!(!desk.path("calls").exists(), "a board without its name gets no certificate");
    assert_eq!(desk.types(&commands, "headwater"), not_done);
    let key = desk.text("board/etc/headwater/device.key");
    assert_eq!(desk.types(&commands, ""), "");

    assert_eq!(desk.calls("create-certificate-from-csr"), 1);
    assert_eq!(desk.text("board/etc/headwater/device.key"), key, "it is that of the certificate");
    assert_eq!(desk.text("board/etc/headwater/device.pem"), "a certificate\n");
    assert_eq!(desk.text("board/etc/hostname"), "gw-1\n");
    assert_eq!(desk.text("board/etc/hosts"), "127.0.0.1 localhost\n127.0.1.1 gw-1\n");
}

#[test]
fn the_readmes_first_configuration_and_that_of_a_laptop_are_right() {
    let first = block_with("toml", "[streams.readings]");

    let loaded = config::parse(&first, "gw-1").unwrap();

    assert_eq!(loaded.warnings, []);
    let mut says = Vec::new();
    let code = check(&CheckArgs { paths: vec!["config/laptop.toml".into()], ..CheckArgs::default() }, &[], &mut says).unwrap();
    assert_eq!(code, ExitCode::SUCCESS, "{}", String::from_utf8_lossy(&says));
}
