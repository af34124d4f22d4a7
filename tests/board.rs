//! What a gateway is installed with: units that systemd understands, and that let the agent do what it needs and little else; and the
//! AWS side of it.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

const UNITS: [(&str, &str); 2] = [("headwater.service", "headwater.service"), ("headwater@.service", "headwater@north.service")];

#[test]
fn systemd_understands_every_line_of_the_units_and_of_the_drop_ins() {
    for (file, unit) in UNITS {
        let folder = TempDir::new().unwrap();
        install(file, unit, folder.path());
        let drop_ins = folder.path().join(format!("{unit}.d"));
        fs::create_dir(&drop_ins).unwrap();
        for drop_in in fs::read_dir(repository("systemd/drop-ins")).unwrap().map(Result::unwrap) {
            fs::copy(drop_in.path(), drop_ins.join(drop_in.file_name())).unwrap();
        }

        // Nobody has installed the manual here.
        let verified = analyze(&["verify", "--man=no"], &folder.path().join(unit));

        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        let ours: Vec<_> = said.lines().filter(|line| line.contains("headwater")).collect();
        assert!(verified.status.success() && ours.is_empty(), "{unit}: {said}");
    }
}

#[test]
fn the_units_leave_the_agent_an_exposure_of_1_3_at_most() {
    for (file, unit) in UNITS {
        let folder = TempDir::new().unwrap();
        install(file, unit, folder.path());

        let judged = analyze(&["security", "--offline=true", "--threshold=13"], &folder.path().join(unit));

        assert!(judged.status.success(), "{unit}: {}", String::from_utf8_lossy(&judged.stdout));
    }
}

#[test]
fn the_unit_for_several_agents_on_a_board_differs_from_the_other_one_in_names_alone() {
    let settings = |file: &str| {
        let text = fs::read_to_string(repository("systemd").join(file)).unwrap();
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect::<Vec<_>>().join("\n")
    };

    let one = settings("headwater.service");
    let one_of_several = settings("headwater@.service");

    let unnamed = one_of_several.replace(" --config /etc/headwater-%i", "").replace("-%i", "").replace(" (%i)", "");
    assert_eq!(one, unnamed);
}

#[test]
fn cloudformation_has_nothing_against_the_template_of_the_aws_side() {
    let lint = repository("target/tools/venv/bin/cfn-lint");
    let ran = Command::new(&lint).arg(repository("config/aws/headwater.yaml")).output();

    let ran = ran.unwrap_or_else(|error| panic!("{}: {error}; run `make tools` once", lint.display()));

    let says = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && says.is_empty(), "{says}{}", String::from_utf8_lossy(&ran.stderr));
}

/// Puts a unit into `folder`, for the binary that these tests are of.
fn install(file: &str, unit: &str, folder: &Path) {
    let text = fs::read_to_string(repository("systemd").join(file)).unwrap();
    fs::write(folder.join(unit), text.replace("/usr/bin/headwater", env!("CARGO_BIN_EXE_headwater"))).unwrap();
}

fn analyze(args: &[&str], unit: &Path) -> Output {
    let ran = Command::new("systemd-analyze").args(args).arg(unit).output();
    ran.unwrap_or_else(|error| panic!("systemd-analyze, of Debian's package systemd: {error}; run `make tools` once"))
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
