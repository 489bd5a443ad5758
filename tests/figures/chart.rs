//! The chart: messages a second of each way, and whether it ends right. Its colours follow the reader's light or dark
//! mode.

use std::fmt::Write;

use crate::figures::{Figures, WAYS, Way};

const WIDTH: f64 = 880.0;
const TOP: f64 = 64.0;
const ROW: f64 = 38.0;
const BAR: f64 = 13.0;
/// Where the bars begin, and how long the longest is.
const LEFT: f64 = 330.0;
const LONGEST: f64 = 330.0;

const STYLE: &str = "
  .ground { fill: #ffffff }
  text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .small, .wrong, .right { font-size: 11px; fill: #59636e }
  .wrong { fill: #b3261e }
  .right { fill: #1a7f37 }
  .new { fill: #8c959f } .exist { fill: #b9c0c7 }
  .ours.new { fill: #0969da } .ours.exist { fill: #6cb0ff }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117 }
    text { fill: #e6edf3 }
    .small { fill: #9198a1 } .wrong { fill: #ff8a80 } .right { fill: #57d57a }
    .new { fill: #7d8590 } .exist { fill: #545d68 }
    .ours.new { fill: #4493f8 } .ours.exist { fill: #1f5fad }
  }";

/// The file.
pub fn draw(figures: &Figures) -> String {
    let shown: Vec<(&Way, [f64; 2])> = WAYS
        .iter()
        .filter_map(|way| {
            let rate = |rows| figures.figure(way, rows, "messages_per_second");
            Some((way, [rate("new")?, rate("exist")?]))
        })
        .collect();
    let most = shown
        .iter()
        .flat_map(|(_, rates)| *rates)
        .fold(1.0, f64::max);
    let height = TOP + ROW * shown.len() as f64 + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Messages a second of each way to apply Sequin's messages\">\n<style>{STYLE}\n</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n"
    );
    let _ = writeln!(
        svg,
        "<text class=\"title\" x=\"10\" y=\"22\">Messages a second, batches of 1000 messages of 1 kB, seven columns</text>\n\
         <text class=\"small\" x=\"10\" y=\"42\">upper bar: new rows; lower bar: rows that exist; right: rows that are wrong \
         after a real delivery out of order</text>"
    );
    for (n, (way, rates)) in shown.iter().enumerate() {
        row(&mut svg, figures, way, rates, TOP + ROW * n as f64, most);
    }
    svg.push_str("</svg>\n");
    svg
}

fn row(svg: &mut String, figures: &Figures, way: &Way, rates: &[f64; 2], y: f64, most: f64) {
    let class = match way.guard {
        Some(_) => "ours ",
        None => "",
    };
    let name = way.name.replace('`', "");
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
        LEFT - 10.0,
        y + BAR + 4.0
    );
    for (n, (rate, rows)) in rates.iter().zip(["new", "exist"]).enumerate() {
        let top = y + n as f64 * (BAR + 1.0);
        let width = (LONGEST * rate / most).max(1.0);
        let _ = writeln!(
            svg,
            "<rect class=\"{class}{rows}\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>\
             <text class=\"small\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT + width + 6.0,
            top + BAR - 2.5,
            crate::pages::thousands(*rate)
        );
    }
    let (class, ending) = match figures.ending(way) {
        Some((0, _)) => ("right", "ends right".to_owned()),
        Some((wrong, rows)) => ("wrong", format!("{wrong} of {rows} rows wrong")),
        None => ("small", "takes no messages".to_owned()),
    };
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{ending}</text>",
        WIDTH - 10.0,
        y + BAR + 4.0
    );
}
