//! A run: every chosen scenario over every chosen backend, shown and written down.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::args::Arguments;
use crate::budget;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::machine::Machine;
use crate::plan::Plan;
use crate::plot::plot;
use crate::report::Report;
use crate::report::Section;
use crate::rounds::Table;
use crate::scenario::Scenario;
use crate::scenario::Setup;
use crate::scenarios::SCENARIOS;
use crate::subject::Subject;
use crate::subjects::SUBJECTS;
use crate::table::table;

/// Measures what the arguments choose; fails if any of it failed, after all has been shown.
pub(crate) async fn run(arguments: &Arguments) -> Outcome {
    let machine = Machine::read()?;
    println!("{machine}");
    if machine.busy {
        eprintln!("lock-bench: warning: the machine is busy, figures will be low and uneven");
    }
    std::fs::create_dir_all(&arguments.out)?;
    // Beside the results, on a disk like theirs, and not in a temporary folder that may be memory.
    let mut stores = tempfile::Builder::new();
    // A server may run as another user, who has to get through.
    stores.prefix("stores-").permissions(Permissions::from_mode(0o711));
    let stores = stores.tempdir_in(&arguments.out)?;
    let stores = stores.path().canonicalize()?;
    let subjects = chosen(SUBJECTS, |subject| subject.name, &arguments.backend);
    let scenarios = chosen(SCENARIOS, |scenario| scenario.name(), &arguments.scenario);
    let mut plan = Plan::new(arguments);
    if arguments.seconds.is_none() && !arguments.quick {
        plan.round = budget::round(&plan, &subjects, &scenarios);
    }
    let began = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let mut report = Report { began, machine, plan, sections: Vec::new() };
    for subject in subjects {
        for scenario in &scenarios {
            let section = measure(subject, *scenario, &report.plan, &stores).await;
            println!("\n{}", table(&section));
            report.sections.push(section);
        }
    }
    for path in report.write(&arguments.out)? {
        println!("{}", path.display());
    }
    report.outcome()
}

/// Completes when a signal asks the program to end, so that workers and stores do not stay behind.
pub(crate) async fn interrupted() {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Those that were named; all, if none was.
fn chosen<T: Copy>(all: &[T], name: impl Fn(&T) -> &'static str, names: &[String]) -> Vec<T> {
    let is_chosen = |one: &&T| names.is_empty() || names.iter().any(|named| named == name(one));
    all.iter().filter(is_chosen).copied().collect()
}

async fn measure(
    subject: &'static Subject,
    scenario: &dyn Scenario,
    plan: &Plan,
    stores: &Path,
) -> Section {
    eprintln!("lock-bench: {} over {} …", scenario.name(), subject.name);
    let setup = scenario.setup(plan);
    let mut section = Section {
        backend: subject.name,
        store: String::new(),
        scenario: scenario.name(),
        title: scenario.title(),
        notes: subject.notes,
        unit: setup.unit,
        method: method(&setup, plan),
        reference: subject.reference(),
        rows: Vec::new(),
        failure: None,
    };
    let measured = async {
        section.store = (subject.version)().await?;
        Table { subject, scenario, plan, stores }.rows().await
    };
    match measured.await {
        Ok(rows) => section.rows = rows,
        Err(failure) => section.failure = Some(failure.to_string()),
    }
    section
}

/// Says how the figures come about.
fn method(setup: &Setup, plan: &Plan) -> String {
    let Setup { rounds, fresh, warm, .. } = setup;
    let rounds = match (rounds, fresh, warm) {
        (1, true, _) => return "one round, in new processes; one lane after the other".to_owned(),
        (_, true, _) => format!("{rounds} rounds, each in new processes"),
        (_, _, true) => format!("{rounds} rounds of {:.1?} after {:.1?}", plan.round, plan.warm),
        _ => format!("{rounds} rounds of {:.1?} after one that does not count", plan.round),
    };
    let spread = if setup.rounds > 4 { "middle half" } else { "lowest–highest" };
    format!("medians ({spread}) of {rounds}; the lanes take turns, there and back")
}

impl Report {
    /// Writes the data and the picture and returns where they are.
    fn write(&self, out: &Path) -> Outcome<[PathBuf; 2]> {
        let mut backends: Vec<_> = self.sections.iter().map(|section| section.backend).collect();
        backends.dedup();
        let name = format!("{}-{}", backends.join("+"), self.began.replace(['-', ':'], ""));
        let paths = ["json", "svg"].map(|kind| out.join(format!("{name}.{kind}")));
        std::fs::write(&paths[0], serde_json::to_string_pretty(self)? + "\n")?;
        std::fs::write(&paths[1], plot(self))?;
        Ok(paths)
    }

    fn outcome(&self) -> Outcome {
        let failures: Vec<_> = self.sections.iter().filter_map(Section::failure).collect();
        if failures.is_empty() { Ok(()) } else { Err(Failure::new(failures.join("\n  "))) }
    }
}
