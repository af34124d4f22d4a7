//! A panic is a bug, and its message is for whoever repairs it: one line in the log, with what failed and where.

use std::panic::{self, PanicHookInfo};

use tracing::{Level, error};

use super::stderr::Stderr;

/// Has panics told like everything else, so that they have the priority of an error in the journal. A release build ends with the first one,
/// by SIGABRT, and systemd starts it again.
pub(super) fn are_told(stderr: Stderr) {
    panic::set_hook(Box::new(move |panic| {
        let line = line(panic);
        if tracing::enabled!(Level::ERROR) {
            error!("{line}");
        } else {
            stderr.says(Level::ERROR, &format!("headwater: {line}"));
        }
    }));
}

fn line(panic: &PanicHookInfo<'_>) -> String {
    let place = panic.location().map_or_else(|| "a place unknown".into(), ToString::to_string);
    let what = panic.payload_as_str().unwrap_or("no words");
    format!("a bug at {place}: {what}; please report it with the lines before this one")
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        thread,
    };

    use super::*;

    #[test]
    fn a_panic_is_told_in_one_line_with_what_failed_and_where() {
        let (give, told) = mpsc::channel();
        let (others, here) = (Arc::new(panic::take_hook()), thread::current().id());
        let of_others = others.clone();
        panic::set_hook(Box::new(move |panic| {
            if thread::current().id() == here {
                give.send(line(panic)).unwrap();
            } else {
                of_others(panic);
            }
        }));

        let ended = panic::catch_unwind(|| panic!("the tank is {}", "empty"));
        panic::set_hook(Box::new(move |panic| others(panic)));

        assert!(ended.is_err());
        let line = told.recv().unwrap();
        assert!(line.starts_with("a bug at src/cli/log/panics.rs:"), "{line}");
        assert!(line.contains(": the tank is empty; please report it"), "{line}");
    }
}
