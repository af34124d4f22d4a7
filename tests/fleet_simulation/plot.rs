//! What a shard took and refused, second by second, as a picture.

use std::fmt::Write;

use crate::figures::{Outcome, Second};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 110.0;
const LEFT: f64 = 60.0;
const GAP: f64 = 50.0;
/// Seconds that are shown.
const SHOWN: usize = 600;
/// Seconds that are averaged.
const STEP: usize = 5;
/// The largest rate that is shown, in MiB a second.
const TOP: f64 = 4.0;
const MIB: f64 = 1_048_576.0;

/// One panel for each simulation, under each other.
pub fn svg(panels: &[(&str, &Outcome)]) -> String {
    let height = panels.len() as f64 * (HEIGHT + GAP) + GAP;
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {w} {height}' width='{w}' height='{height}' \
         font-family='sans-serif' font-size='12'>\n<rect width='100%' height='100%' fill='white'/>\n\
         <text x='{LEFT}' y='20'>MiB a second that a shard took (blue) and refused (red), from the end of the outage on</text>\n",
        w = LEFT + WIDTH + 20.0,
    );
    for (index, (name, outcome)) in panels.iter().enumerate() {
        panel(&mut svg, GAP + index as f64 * (HEIGHT + GAP), name, &outcome.seconds);
    }
    svg + "</svg>\n"
}

fn panel(svg: &mut String, top: f64, name: &str, seconds: &[Second]) {
    let bottom = top + HEIGHT;
    let y = |rate: f64| bottom - HEIGHT * rate.min(TOP) / TOP;
    let line = |of: fn(&Second) -> u64| {
        let mut points = String::new();
        for (index, chunk) in seconds[..seconds.len().min(SHOWN)].chunks(STEP).enumerate() {
            let rate = chunk.iter().map(of).sum::<u64>() as f64 / MIB / chunk.len() as f64;
            // Writing to a string never fails.
            let _ = write!(points, "{:.1},{:.1} ", LEFT + WIDTH * (index * STEP) as f64 / SHOWN as f64, y(rate));
        }
        points
    };
    let (taken, refused) = (line(|second| second.accepted), line(|second| second.refused));
    let right = LEFT + WIDTH;
    let _ = write!(
        svg,
        "<text x='{LEFT}' y='{title}' font-weight='bold'>{name}</text>\n\
         <path d='M{LEFT} {top}V{bottom}H{right}' fill='none' stroke='black'/>\n\
         <path d='M{LEFT} {one}H{right}' stroke='grey' stroke-dasharray='4'/>\n\
         <text x='{label}' y='{one}' text-anchor='end'>1</text><text x='{label}' y='{top}' text-anchor='end'>{TOP}</text>\n\
         <text x='{LEFT}' y='{time}'>0</text><text x='{right}' y='{time}' text-anchor='end'>{SHOWN} s</text>\n\
         <polyline points='{taken}' fill='none' stroke='#1f77b4' stroke-width='1.5'/>\n\
         <polyline points='{refused}' fill='none' stroke='#d62728' stroke-width='1.5'/>\n",
        title = top - 6.0,
        one = y(1.0),
        label = LEFT - 6.0,
        time = bottom + 15.0,
    );
}
