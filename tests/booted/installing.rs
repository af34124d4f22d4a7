//! What the package brings, what it leaves alone, and what it takes with it.

use std::{fs, os::unix::fs::MetadataExt};

use crate::board::{Board, Package, settings};

#[tokio::test]
async fn a_package_starts_nothing_that_nobody_has_configured_and_says_what_to_do() {
    let board = Board::with(Package::Now, settings()).await;

    assert_eq!(board.unit("ActiveState").await, "inactive");
    assert_eq!(board.unit("UnitFileState").await, "enabled", "it starts with the board, once it can");
    board.does("systemctl start headwater").await;
    assert_eq!((board.unit("ActiveState").await, board.unit("ConditionResult").await), ("inactive".into(), "no".into()));

    let again = board.does("dpkg --purge headwater && apt-get install --yes --quiet /root/now.deb").await;
    assert!(again.contains("/usr/share/doc/headwater/examples/gateway.toml"), "{again}");
    assert!(!again.contains("stay"), "there was nothing to be kept: {again}");
}

#[tokio::test]
async fn everything_is_tried_out_before_the_first_start_with_what_only_the_service_is_given() {
    let board = Board::with(Package::Now, settings()).await;
    board.is_configured();

    let line = "systemd-run --quiet --pipe --wait -p User=headwater -p EnvironmentFile=-/etc/headwater/environment headwater check --online";
    let said = board.does(line).await;

    assert!(said.contains("ok    disk") && said.contains("credentials, without an expiry"), "{said}");
}

#[tokio::test]
async fn a_package_brings_its_user_its_folder_manual_and_completions() {
    let board = Board::with(Package::Now, settings()).await;

    assert!(board.does("id headwater").await.contains("(dialout)"));
    let group = board.does("getent group headwater").await;
    let folder = fs::metadata(board.path("etc/headwater")).unwrap();
    assert_eq!((folder.mode() & 0o7777, folder.uid()), (0o750, 0));
    assert!(group.contains(&format!(":{}:", folder.gid())), "{group}");
    let state = fs::metadata(board.path("var/lib/headwater")).unwrap();
    assert_eq!(state.mode() & 0o7777, 0o750);
    assert!(board.does("id headwater").await.starts_with(&format!(
        "uid={}(headwater) gid={}(headwater)",
        state.uid(),
        state.gid()
    )));
    assert_eq!(fs::metadata(board.path("etc/headwater/environment")).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(board.does("headwater --version").await, format!("headwater {}\n", env!("CARGO_PKG_VERSION")));

    let files = board.does("dpkg --listfiles headwater").await;
    for command in ["", "-run", "-check", "-show", "-status", "-tail", "-buffer", "-buffer-verify", "-buffer-drain"] {
        assert!(files.contains(&format!("/usr/share/man/man1/headwater{command}.1.gz\n")), "{command}: {files}");
    }
    assert!(!files.contains("demo"), "the package has no demo");
    let manual = board.does("zcat /usr/share/man/man1/headwater.1.gz").await;
    assert!(manual.contains(".SH FILES") && manual.contains(".SH ENVIRONMENT") && !manual.contains("demo"), "{manual}");
    let completed = board.does(
        "bash -c '. /usr/share/bash-completion/completions/headwater
        COMP_WORDS=(headwater buffer v) COMP_CWORD=2; _headwater headwater v buffer; echo ${COMPREPLY[*]}'",
    );
    assert_eq!(completed.await, "verify\n");
    assert_eq!(board.does("dpkg --verify headwater").await, "", "every file is as it was packaged");
}

#[tokio::test]
async fn systemd_finds_nothing_wrong_with_the_units_and_an_exposure_of_1_3_at_most_in_the_running_agent() {
    let board = Board::running(Package::Now, settings()).await;

    assert_eq!(board.does("systemd-analyze verify --man=no headwater.service headwater@north.service").await, "");
    board.does("systemd-analyze security --threshold=13 headwater.service").await;
    assert_eq!(board.unit("ActiveState").await, "active");
    assert_eq!(board.unit("User").await, "headwater");
    let process = board.unit("MainPID").await;
    let status = board.does(&format!("cat /proc/{process}/status /proc/{process}/limits")).await;
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("CapBnd:\t0000000000000000"), "{status}");
    let core = status.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().next(), Some("0"), "no core dump has its secrets");
}

#[tokio::test]
async fn removal_keeps_what_is_the_gateways_and_purging_removes_its_configuration_and_no_reading() {
    let mut board = Board::running(Package::Now, settings()).await;
    board.gateway.cloud.away();
    board.gateway.field.publishes(50).await;
    board.gateway.holds(50).await;

    board.does("apt-get remove --yes --quiet headwater").await;
    assert_eq!(board.unit("ActiveState").await, "inactive", "it was stopped");
    assert!(board.reads("etc/headwater/gateway.toml").contains("[sources.broker]"));
    let said = board.does("apt-get purge --yes --quiet headwater").await;
    assert!(said.contains("/var/lib/headwater and the readings in it stay"), "{said}");
    assert!(!board.path("etc/headwater").exists());

    // And they are there for who installs it again.
    board.installs(Package::Now).await;
    board.is_configured();
    board.gateway.cloud.back();
    board.does("systemctl start headwater").await;
    board.everything_arrives().await;
}

#[tokio::test]
async fn purging_removes_the_readings_when_it_is_told_to() {
    let board = Board::running(Package::Now, settings()).await;
    assert!(board.path("var/lib/headwater/buffer.db").exists());

    board.does("HEADWATER_PURGE_READINGS=yes apt-get purge --yes --quiet headwater").await;

    assert!(!board.path("var/lib/headwater").exists());
    assert!(!board.path("etc/headwater").exists());
    assert!(!board.path("etc/systemd/system/multi-user.target.wants/headwater.service").exists());
}

#[tokio::test]
async fn several_agents_share_a_board_and_are_upgraded_and_removed_with_the_package() {
    let board = Board::running(Package::Earlier, settings()).await;
    let north = fs::read_to_string(board.gateway.agent.config()).unwrap();
    let north = north.replace("/var/lib/headwater", "/var/lib/headwater-north").replace("/run/headwater/", "/run/headwater-north/");
    fs::create_dir(board.path("etc/headwater-north")).unwrap();
    // A broker takes each name once, and so does a stream.
    board.writes("etc/headwater-north/gateway.toml", &north.replace("gw-1", "gw-north"));
    board.does("chgrp -R headwater /etc/headwater-north && systemctl enable --now headwater@north").await;
    let before = board.unit_of("headwater@north", "MainPID").await;
    assert!(board.path("var/lib/headwater-north/buffer.db").exists());

    board.installs(Package::Now).await;
    assert_eq!(board.unit_of("headwater@north", "ActiveState").await, "active");
    assert_ne!(board.unit_of("headwater@north", "MainPID").await, before, "it runs the new program");

    board.does("apt-get remove --yes --quiet headwater").await;
    assert_eq!(board.unit_of("headwater@north", "ActiveState").await, "inactive");
    let started_with = "etc/systemd/system/multi-user.target.wants";
    assert!(board.path(started_with).join("headwater@north.service").is_symlink(), "it would start when the package is back");
    // A unit of somebody else's, by a similar name.
    board.does(&format!("ln -s /opt/headwater@.service /{started_with}/headwater@own.service")).await;

    let said = board.does("apt-get purge --yes --quiet headwater").await;
    assert!(said.contains("/etc/headwater-north stays") && said.contains("/var/lib/headwater-north and the readings"), "{said}");
    assert!(board.path("etc/headwater-north/gateway.toml").exists());
    assert_eq!(board.does(&format!("cd /{started_with} && ls -d headwater*")).await, "headwater@own.service\n");
}

#[tokio::test]
async fn a_secret_that_only_root_can_read_reaches_the_agent_as_one_of_systemds_credentials() {
    let secret = "$CREDENTIALS_DIRECTORY/aws-secret";
    let plan = settings().set("destinations.cloud.credentials.kind", "static");
    let plan = plan.set("destinations.cloud.credentials.access_key_id", "test");
    let mut board = Board::with(Package::Now, plan.set("destinations.cloud.credentials.secret_access_key_file", secret)).await;
    board.has_settings();
    board.does("mkdir -m 700 /etc/headwater-secrets && (umask 077; printf secret > /etc/headwater-secrets/aws-secret)").await;
    board.has_drop_in("[Service]\nLoadCredential=aws-secret:/etc/headwater-secrets/aws-secret\n").await;

    board.does("systemctl start headwater").await;
    board.gateway.field.is_listened_to().await;
    board.gateway.field.publishes(10).await;

    board.everything_arrives().await;
}

#[tokio::test]
async fn a_program_that_prints_credentials_is_started_with_the_drop_in_for_it() {
    let program = "/usr/local/bin/aws_signing_helper";
    let plan = settings().set("destinations.cloud.credentials.kind", "process");
    let mut board = Board::with(Package::Now, plan.set("destinations.cloud.credentials.command", vec![program.to_owned()])).await;
    board.is_configured();
    board.writes("etc/headwater/environment", "");
    let prints = r#"{"Version": 1, "AccessKeyId": "test", "SecretAccessKey": "test"}"#;
    board.writes(&program[1..], &format!("#!/bin/sh\necho '{prints}'\n"));
    board.does(&format!("chmod 755 {program}")).await;
    board.has_drop_in("[Service]\nExecPaths=/usr/bin/dash\n").await; // it is a script
    let drop_in = "/usr/share/doc/headwater/examples/systemd/credential-process.conf";
    board.does(&format!("cp {drop_in} /etc/systemd/system/headwater.service.d/ && systemctl daemon-reload")).await;

    board.does("systemctl start headwater").await;
    board.gateway.field.is_listened_to().await;
    board.gateway.field.publishes(10).await;

    board.everything_arrives().await;
}
