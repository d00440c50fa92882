//! A section as text for a terminal.

use crate::figures::Spread;
use crate::report::Row;
use crate::report::Section;

/// Writes the table with its title and notes.
pub(crate) fn table(section: &Section) -> String {
    let Section { backend, store, scenario, title, method, .. } = section;
    let mut text = format!("{backend} ({store}) · {scenario}: {title}\n  {method}\n");
    if let Some(failure) = &section.failure {
        return text + &format!("  FAILED: {failure}\n");
    }
    for note in section.notes {
        text += &format!("  {note}\n");
    }
    for line in aligned(&lines(section)) {
        text += &format!("  {line}\n");
    }
    for row in section.rows.iter().filter(|row| row.errors > 0) {
        let error = row.error.as_deref().unwrap_or_default();
        text += &format!("  {} had {} errors, the first: {error}\n", row.lane, row.errors);
    }
    text
}

/// The header and the rows, cell by cell. What nobody has a value for has no column.
fn lines(section: &Section) -> Vec<Vec<String>> {
    let figures = section.rows.iter().map(|row| &row.figures).max_by_key(|figures| figures.len());
    let figures = figures.map_or(&[][..], Vec::as_slice);
    let mut header = vec![section.unit.to_owned(), "lane".to_owned()];
    let columns: Vec<usize> = (0..figures.len()).filter(|at| is_known(section, *at)).collect();
    header.extend(columns.iter().map(|at| figures[*at].name.to_owned()));
    if let (Some(reference), Some(main)) = (section.reference, figures.first()) {
        header.push(format!("{} ÷ {reference}", main.name));
    }
    header.push("errors".to_owned());
    let has_ratio = section.reference.is_some();
    let rows = section.rows.iter().map(|row| line(row, &columns, has_ratio));
    [header].into_iter().chain(rows).collect()
}

fn is_known(section: &Section, at: usize) -> bool {
    let mut figures = section.rows.iter().filter_map(|row| row.figures.get(at));
    figures.any(|figure| figure.value.is_some())
}

fn line(row: &Row, columns: &[usize], has_ratio: bool) -> Vec<String> {
    let mut cells = vec![row.size.to_string(), row.lane.to_owned()];
    if !row.supported {
        cells.push("not supported".to_owned());
        return cells;
    }
    let value = |at: &usize| row.figures.get(*at).and_then(|figure| figure.value);
    let text = |at| value(at).map_or_else(|| "–".to_owned(), |value| number(value.median));
    cells.extend(columns.iter().map(text));
    if has_ratio {
        let ratio = row.figures.first().and_then(|figure| figure.ratio);
        cells.push(ratio.map(spread).unwrap_or_default());
    }
    cells.push(row.errors.to_string());
    cells
}

fn spread(spread: Spread) -> String {
    let Spread { median, low, high } = spread;
    format!("{} ({}–{})", number(median), number(low), number(high))
}

/// Writes a number with about three digits that matter.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => thousands(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.3}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(digits_of).collect();
    let sign = if value < 0.0 { "-" } else { "" };
    sign.to_owned() + &groups.join(",")
}

fn digits_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("digits are ASCII")
}

/// The lane to the left, all else to the right, two blanks between.
fn aligned(lines: &[Vec<String>]) -> Vec<String> {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        // What is said instead of figures may run over.
        let cells = cells.filter(|cell| cell.as_str() != "not supported");
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let cell = |(column, cell): (usize, &String)| match column {
        1 => format!("{cell:<width$}", width = widths[column]),
        _ => format!("{cell:>width$}", width = widths[column]),
    };
    let line =
        |line: &Vec<String>| line.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
    lines.iter().map(line).map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let cases = [
            (1_234_567.8, "1,234,568"),
            (1000.0, "1,000"),
            (123.4, "123"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.0123, "0.012"),
            (0.0, "0"),
            (-2500.0, "-2,500"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn columns_line_up() {
        let cells = |line: &[&str]| line.iter().map(ToString::to_string).collect::<Vec<_>>();
        let lines = [cells(&["tasks", "lane", "µs"]), cells(&["1", "a", "10"])];
        assert_eq!(aligned(&lines), ["tasks  lane  µs", "    1  a     10"]);
    }
}
