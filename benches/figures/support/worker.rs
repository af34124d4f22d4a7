//! Processes of this program, told what to do line by line.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::Outcome;

/// One process; it is killed when this is dropped.
pub struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts this program as `role`.
    pub fn start(role: &[&str]) -> Outcome<Self> {
        let mut child =
            Command::new(env::current_exe()?).arg("as").args(role).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take().ok_or("no pipe")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        Ok(Self { child, orders, answers })
    }

    /// Gives an order.
    pub fn tell(&mut self, order: &str) -> Outcome<()> {
        writeln!(self.orders, "{order}")?;
        Ok(())
    }

    /// Waits for the next line, which must begin with `word`; the rest of it.
    pub fn hear(&mut self, word: &str) -> Outcome<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let rest = line.trim_end().strip_prefix(word).map(|rest| rest.trim_start().to_owned());
        rest.ok_or_else(|| format!("expected {word:?} and heard {line:?}").into())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
