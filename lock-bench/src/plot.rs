//! The results as a picture: a panel per table and size, a bar per lane, with its spread over the rounds.
//!
//! Plain SVG by hand: a few rectangles need no library, and the reader's own fonts do.

use std::fmt::Write as _;

use crate::figures::Spread;
use crate::report::Report;
use crate::report::Row;
use crate::report::Section;
use crate::table::number;

const WIDTH: f64 = 860.0;
const MARGIN: f64 = 20.0;
/// Where bars begin; lanes are named before.
const BARS: f64 = 200.0;
/// How long the longest is; figures stand behind.
const LONGEST: f64 = 430.0;
const LINE: f64 = 22.0;
const BAR: f64 = 14.0;

/// Draws all sections.
pub(crate) fn plot(report: &Report) -> String {
    let mut picture = Picture { shapes: String::new(), y: MARGIN };
    picture.text(MARGIN, "title", &format!("lock-bench, {}", report.began));
    picture.text(MARGIN, "small", &report.machine.to_string());
    if report.machine.busy {
        picture.text(MARGIN, "warning", "the machine was busy with other work when this began");
    }
    report.sections.iter().for_each(|section| picture.section(section));
    picture.finish()
}

struct Picture {
    shapes: String,
    y: f64,
}

impl Picture {
    fn section(&mut self, section: &Section) {
        if let Some(failure) = &section.failure {
            self.y += LINE / 2.0;
            self.text(MARGIN, "head", &format!("{} · {}", section.backend, section.scenario));
            self.text(MARGIN, "warning", failure);
        }
        for panel in section.rows.chunk_by(|a, b| a.size == b.size) {
            self.panel(section, panel);
        }
    }

    /// Bars of one size have one scale.
    fn panel(&mut self, section: &Section, rows: &[Row]) {
        let main = rows.iter().find_map(|row| row.figures.first()).map_or("", |figure| figure.name);
        let size = rows.first().map_or(0, |row| row.size);
        let Section { backend, scenario, unit, .. } = section;
        self.y += LINE / 2.0;
        self.text(MARGIN, "head", &format!("{backend} · {scenario}, {size} {unit}: {main}"));
        let highest = rows.iter().filter_map(value).map(|spread| spread.high).fold(0.0, f64::max);
        for row in rows {
            self.bar(row, LONGEST / if highest > 0.0 { highest } else { 1.0 });
        }
    }

    fn bar(&mut self, row: &Row, scale: f64) {
        let (top, middle) = (self.y - BAR + 2.0, self.y - BAR / 2.0 + 2.0);
        let mut end = 0.0;
        let mut says = "not measured".to_owned();
        if let Some(Spread { median, low, high }) = value(row) {
            let class = if row.ours { "ours" } else { "other" };
            let (from, to) = (BARS + low.max(0.0) * scale, BARS + high.max(0.0) * scale);
            end = to - BARS;
            self.shape(&format!(
                r#"<rect class="{class}" x="{BARS}" y="{top:.1}" width="{:.1}" height="{BAR}"/>"#,
                median.max(0.0) * scale
            ));
            self.shape(&format!(
                r#"<line x1="{from:.1}" y1="{middle:.1}" x2="{to:.1}" y2="{middle:.1}"/>"#
            ));
            says = format!("{} ({}–{})", number(median), number(low), number(high));
        }
        self.label(BARS + end + 8.0, "small", &says);
        self.text(MARGIN, "lane", row.lane);
    }

    /// Writes a line and goes on to the next.
    fn text(&mut self, x: f64, class: &str, text: &str) {
        self.label(x, class, text);
        self.y += LINE;
    }

    fn label(&mut self, x: f64, class: &str, text: &str) {
        let (y, text) = (self.y, escaped(text));
        self.shape(&format!(r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{text}</text>"#));
    }

    fn shape(&mut self, shape: &str) {
        self.shapes += shape;
        self.shapes.push('\n');
    }

    fn finish(self) -> String {
        let height = self.y + MARGIN;
        let mut svg = String::new();
        let _ = write!(
            svg,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" height="{height:.0}">
<style>
text {{ font: 13px sans-serif; fill: #222 }} .title {{ font-size: 16px; font-weight: bold }}
.head {{ font-weight: bold }} .small {{ font-size: 11px; fill: #555 }} .warning {{ fill: #b00020 }}
.ours {{ fill: #2f6fab }} .other {{ fill: #b5bcc4 }} line {{ stroke: #222 }}
</style>
<rect width="100%" height="100%" fill="#fff"/>
{}</svg>
"##,
            self.shapes
        );
        svg
    }
}

fn value(row: &Row) -> Option<Spread> {
    row.figures.first().and_then(|figure| figure.value)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
