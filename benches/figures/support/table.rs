//! How figures are printed.

/// Prints one table, line by line, so that a long run shows progress.
pub struct Table {
    /// Of the first column.
    width: usize,
}

impl Table {
    /// Begins a table.
    pub fn new(title: &str) -> Self {
        println!("\n{title}\n{}", "-".repeat(title.chars().count()));
        Self { width: 66 }
    }

    /// A figure for which there is no goal.
    pub fn note(&self, what: &str, value: impl std::fmt::Display) {
        println!("  {what:<width$} {value:>16}", width = self.width);
    }

    /// A figure that should be at most `goal`.
    pub fn at_most(&self, what: &str, value: f64, goal: f64, unit: &str) {
        self.judge(what, value, goal, unit, "at most", value <= goal);
    }

    /// A figure that should be at least `goal`.
    pub fn at_least(&self, what: &str, value: f64, goal: f64, unit: &str) {
        self.judge(what, value, goal, unit, "at least", value >= goal);
    }

    fn judge(&self, what: &str, value: f64, goal: f64, unit: &str, side: &str, good: bool) {
        let (value, goal) = (number(value, unit), number(goal, unit));
        let verdict = if good { "" } else { "   MISSED" };
        println!("  {what:<width$} {value:>16}   {side} {goal}{verdict}", width = self.width);
    }
}

fn number(value: f64, unit: &str) -> String {
    let digits = if value >= 1000.0 || value.fract() == 0.0 { 0 } else { 2 };
    format!("{value:.digits$} {unit}").trim_end().to_owned()
}
