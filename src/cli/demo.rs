//! `headwater demo`: everything embedded, nothing to install or configure.

/// Shows a whole gateway at work: sensors, a broker, a serial scale, an uplink that goes away, and a local Kinesis endpoint.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Port of the page on 127.0.0.1; by default 8470, or any free one when that is taken
    #[arg(long)]
    pub port: Option<u16>,

    /// Stops after so many seconds, checks that every reading arrived exactly once and in order, and exits 0 or 1; without it the
    /// demo runs until Ctrl-C
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(3..=86_400))]
    pub seconds: Option<u64>,
}
