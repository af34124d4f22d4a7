//! CPU time, memory, and what machine this is, as the kernel tells.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use super::{Outcome, median};

/// User and system time of this process, all threads.
pub fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// User and system time of process `pid`, all threads; to 10 ms. Source: proc(5), `/proc/pid/stat`, fields 14 and 15.
pub fn cpu_of(pid: u32) -> Outcome<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/pid/stat")?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap_or_default()).sum();
    Ok(Duration::from_millis(ticks * 10)) // USER_HZ is 100 on every architecture that we run on
}

/// Resident bytes of process `pid`: now, and at most so far.
pub fn resident(pid: u32) -> Outcome<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0) * 1024
    };
    Ok((field("VmRSS:"), field("VmHWM:")))
}

/// How long an `fdatasync` of 4 KiB takes in `folder`, in a file that does not grow.
pub fn fdatasync_time(folder: &Path) -> Outcome<Duration> {
    let path = folder.join("fdatasync");
    let file = File::create(&path)?;
    file.write_all_at(&vec![0; 1 << 20], 0)?;
    file.sync_all()?;
    let mut times = Vec::new();
    for place in 0..200_u64 {
        file.write_all_at(&[1; 4096], place * 4096)?;
        let started = Instant::now();
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64());
    }
    fs::remove_file(path)?;
    Ok(Duration::from_secs_f64(median(times)))
}

/// Whether others have more to do here than there are cores for, so that times tell of them.
pub fn is_busy() -> bool {
    let load = load().parse::<f64>().unwrap_or_default();
    load > thread::available_parallelism().map_or(1, usize::from) as f64 + 1.0
}

/// Processes that ran or waited for a core or a disk, on average of the last minute.
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("?").to_owned()
}

/// Processor, cores and kernel.
pub fn description() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map_or("?", |(_, model)| model.trim());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, {}, Linux {}; load before: {}", std::env::consts::ARCH, kernel.trim(), load())
}
