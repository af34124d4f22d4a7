//! A buffer without its thread: it does what it has to do when it is told to, at a time that is told too.

use std::{
    cell::Cell,
    pin::pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use crate::{
    buffer::{
        Buffer, BufferError, BufferSettings, Lane, Layout, Shared,
        salvage::{self, Job},
        store::Store,
        writer::{Prepared, Turn, Writer, prepare},
    },
    reading::Fingerprint,
    record::Previous,
    status::Status,
};

thread_local! {
    static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// What time it is in this thread.
pub(super) fn now() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now) + PASSED.get()
}

pub(super) fn passes(time: Duration) {
    PASSED.set(PASSED.get() + time);
}

pub(super) struct Stepped {
    pub(super) buffer: Option<Buffer>,
    pub(super) lanes: Vec<(Lane, Option<Previous>)>,
    pub(super) older: Vec<Lane>,
    /// What its source's sender may repeat.
    pub(super) known: Vec<Fingerprint>,
    pub(super) status: Status,
    /// Files that are to be salvaged.
    jobs: Vec<Job>,
    shared: Arc<Shared>,
    writer: Writer,
}

impl Stepped {
    pub(super) fn open(settings: &BufferSettings, layouts: &[Layout]) -> Result<Self, BufferError> {
        let status = Status::default();
        let Prepared { writer, lanes, older, known, jobs } = prepare(settings, layouts, status.clone())?;
        let shared = writer.shared();
        let buffer = Some(Buffer::of(shared.clone()));
        let known = known.into_values().flatten().collect();
        Ok(Self { buffer, lanes, older, known, status, jobs, shared, writer })
    }

    pub(super) fn buffer(&self) -> &Buffer {
        self.buffer.as_ref().expect("it is open until it is closed")
    }

    pub(super) fn store(&mut self) -> &mut Store {
        self.writer.store()
    }

    /// All lanes that have or had something.
    pub(super) fn all_lanes(&self) -> impl Iterator<Item = &Lane> {
        self.older.iter().chain(self.lanes.iter().map(|(lane, _)| lane))
    }

    /// Does all that is due; says how long nothing more is.
    pub(super) fn settles(&mut self) -> Duration {
        loop {
            match self.writer.turn(&self.shared) {
                Turn::Again => {}
                Turn::Wait(_, time) => return time,
                Turn::End => return Duration::MAX,
            }
        }
    }

    /// Waits for what the buffer is asked for.
    pub(super) fn answers<T>(&mut self, question: impl AsyncFnOnce(Buffer) -> T) -> T {
        let mut answer = pin!(question(self.buffer().clone()));
        loop {
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return answer;
            }
            assert!(matches!(self.writer.turn(&self.shared), Turn::Again), "nobody answers");
        }
    }

    /// Brings in all that can be read of what was set aside.
    pub(super) fn salvages(&mut self) {
        let (jobs, shared) = (std::mem::take(&mut self.jobs), self.shared.clone());
        let reads = thread::spawn(move || salvage::run(jobs, &shared));
        while !reads.is_finished() {
            match self.writer.turn(&self.shared) {
                Turn::Again => {}
                Turn::Wait(inner, _) => {
                    drop(inner);
                    thread::yield_now();
                }
                Turn::End => panic!("it ends before everything is there"),
            }
        }
        reads.join().expect("it does not panic");
    }

    /// Everyone lets go of it, and it ends in order.
    pub(super) fn closes(mut self) {
        self.buffer = None;
        loop {
            match self.writer.turn(&self.shared) {
                Turn::Again => {}
                Turn::Wait(..) => panic!("it waits for nobody"),
                Turn::End => return,
            }
        }
    }
}
