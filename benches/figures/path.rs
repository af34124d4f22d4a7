//! The path of a reading, from bytes received to committed chunk: CPU and allocations.
//!
//! The whole agent runs in this process with the cloud out of reach, so that every reading is committed before its PUBACK; the broker
//! is another process, so that the CPU is the agent's.

use futures_util::{FutureExt, SinkExt, StreamExt};
use headwater::{agent, config, status::Status};
use rumqttc::{Codec, Connect, Packet, PubAck, QoS, Subscribe};
use tokio::{net::TcpStream, runtime::Runtime};
use tokio_util::{codec::Framed, sync::CancellationToken};

use crate::support::{
    Outcome, READINGS,
    agent::{Setup, configuration},
    allocations,
    disk::Log,
    gate::{Gate, group},
    load::Broker,
    machine::own_cpu,
    median,
    table::Table,
};

/// Each figure is the median of so many runs.
const RUNS: usize = 3;
/// Until the WAL has grown to its size, which it does once in its life.
const WARM_UP: u64 = 200_000;
const WINDOW: usize = 1000;
/// Readings of a commit, where the parts are measured alone: what half of the window brings.
const GROUP: u64 = 500;
/// Acknowledgements in one write of the codec alone.
const ACKS: usize = 512;

/// Microseconds of CPU, and allocations, for one reading.
#[derive(Clone, Copy)]
struct Cost {
    micros: f64,
    allocations: f64,
}

pub fn measure() -> Outcome<()> {
    let table = Table::new("Path of a reading: 113 bytes, QoS 1, window 1,000, fsynced before each PUBACK");
    let codec = cost(codec_alone)?;
    let buffer = cost(buffer_alone)?;
    let log = cost(log_alone)?;
    let parts = codec.micros + buffer.micros;
    table.note("CPU of a reading: MQTT codec alone", format!("{:.2} µs", codec.micros));
    table.note("  CRC log, one fdatasync for 500 readings", format!("{:.2} µs", log.micros));
    table.note("  the buffer alone, commits of 500 readings", format!("{:.2} µs", buffer.micros));
    let raw = cost(|counting| agent("raw", counting))?;
    table.at_most("  whole path, encoding raw", raw.micros, 1.2, "µs");
    table.note("    over the sum of codec and buffer", format!("{:.2} x", raw.micros / parts));
    let cbor = cost(|counting| agent("cbor", counting))?;
    table.note("  whole path, JSON payload to CBOR envelope", format!("{:.2} µs", cbor.micros));
    table.note("allocations of a reading: MQTT codec alone", format!("{:.3}", codec.allocations));
    // What is allocated once for hundreds of readings is not what is meant.
    table.at_most("  whole path, encoding raw, beyond the codec's", raw.allocations - codec.allocations, 0.05, "");
    table.note("  whole path, CBOR, beyond the codec's", format!("{:.3}", cbor.allocations - codec.allocations));
    Ok(())
}

fn cost(mut run: impl FnMut(bool) -> Outcome<Cost>) -> Outcome<Cost> {
    let micros = (0..RUNS).map(|_| Ok(run(false)?.micros)).collect::<Outcome<_>>()?;
    Ok(Cost { micros: median(micros), allocations: run(true)?.allocations })
}

/// Measures `work`, which takes [`READINGS`].
fn measured(counting: bool, work: impl FnOnce() -> Outcome<()>) -> Outcome<Cost> {
    if counting {
        allocations::start();
    }
    let before = own_cpu();
    work()?;
    let took = own_cpu().saturating_sub(before);
    let allocations = if counting { allocations::stop() } else { 0 };
    Ok(Cost { micros: took.as_secs_f64() * 1e6 / READINGS as f64, allocations: allocations as f64 / READINGS as f64 })
}

/// As the binary has it.
fn runtime() -> Outcome<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn agent(encoding: &str, counting: bool) -> Outcome<Cost> {
    let folder = tempfile::tempdir()?;
    let mut broker = Broker::start()?;
    // Port 1 is nobody's: the cloud is away.
    let url = "http://127.0.0.1:1";
    let setup = Setup { broker: broker.port, url, encoding, hold: "0s", lanes: 1, window: WINDOW };
    let config = config::parse(&configuration(folder.path(), &setup)?, "bench")?.config;
    let (runtime, stop) = (runtime()?, CancellationToken::new());
    let running = runtime.spawn(agent::run(config, Status::default(), stop.clone()));
    broker.publish(WARM_UP, None, WINDOW)?;
    let cost = measured(counting, || broker.publish(READINGS, None, WINDOW).map(drop))?;
    stop.cancel();
    runtime.block_on(running)??;
    Ok(cost)
}

fn codec_alone(counting: bool) -> Outcome<Cost> {
    let mut broker = Broker::start()?;
    let runtime = runtime()?;
    runtime.spawn(take_and_acknowledge(broker.port));
    broker.publish(WARM_UP, None, WINDOW)?;
    measured(counting, || broker.publish(READINGS, None, WINDOW).map(drop))
}

/// Takes what comes, and acknowledges it in runs: what no session can do without.
async fn take_and_acknowledge(port: u16) -> Outcome<()> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    tcp.set_nodelay(true)?;
    let codec = Codec { max_incoming_size: 1 << 20, max_outgoing_size: 1 << 20 };
    let mut framed = Framed::with_capacity(tcp, codec, 64 << 10);
    framed.send(Packet::Connect(Connect::new("codec-alone"))).await?;
    framed.send(Packet::Subscribe(Subscribe { pkid: 1, ..Subscribe::new("#", QoS::AtLeastOnce) })).await?;
    while let Some(first) = framed.next().await {
        let mut next = Some(first);
        for _ in 0..ACKS {
            match next {
                Some(Ok(Packet::Publish(publish))) => {
                    PubAck::new(publish.pkid).write(framed.write_buffer_mut())?;
                }
                Some(Err(error)) => return Err(error.into()),
                _ => {}
            }
            next = framed.next().now_or_never().flatten();
            if next.is_none() {
                break;
            }
        }
        if let Some(Ok(Packet::Publish(publish))) = next {
            PubAck::new(publish.pkid).write(framed.write_buffer_mut())?;
        }
        SinkExt::<Packet>::flush(&mut framed).await?;
    }
    Ok(())
}

fn buffer_alone(counting: bool) -> Outcome<Cost> {
    let folder = tempfile::tempdir()?;
    let mut gate = Gate::open(folder.path())?;
    let data = group(0, GROUP);
    (0..WARM_UP / GROUP).try_for_each(|_| gate.commit(&data, GROUP))?;
    let cost = measured(counting, || (0..READINGS / GROUP).try_for_each(|_| gate.commit(&data, GROUP)))?;
    gate.close();
    Ok(cost)
}

fn log_alone(counting: bool) -> Outcome<Cost> {
    let folder = tempfile::tempdir()?;
    let mut log = Log::new(folder.path())?;
    let data = group(0, GROUP);
    measured(counting, || (0..READINGS / GROUP).try_for_each(|_| log.append(&data)))
}
