//! The commands, one per file.

mod acquire;
mod claim;
mod cleanup;
mod completions;
mod elect;
mod job;
mod list;
mod lookout;
mod man;
mod profile;
mod release;
mod renew;
mod run;
mod schema;
mod state;
mod status;
mod unlock;
mod watch;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lock::Config;
use lock::ErrorKind;
use lock::LockProvider;
use tokio::runtime::Builder;

use crate::args::Cli;
use crate::args::Command;
use crate::args::Global;
use crate::caller::Caller;
use crate::caller::end_of_wait;
use crate::exit::Code;
use crate::exit::Outcome;
use crate::output;
use crate::place;
use crate::result::ResultFd;

/// How long the end of a call waits for releases to be confirmed.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a command works with.
#[derive(Debug)]
struct Context {
    global: Global,
    config: Config,
    provider: Arc<dyn LockProvider>,
}

impl Context {
    async fn open(global: Global) -> Result<Self, Outcome> {
        let config = place::config(&global)?;
        Ok(Self::connect(&global, &config).await?)
    }

    /// Opens it; a fatal signal ends that too, however long the store takes to answer.
    async fn open_unless_ended(
        global: Global,
        key: &str,
        caller: &mut Caller,
    ) -> Result<Self, Outcome> {
        tokio::select! {
            biased;
            outcome = end_of_wait(caller, key) => Err(outcome),
            context = Self::open(global) => context,
        }
    }

    async fn connect(global: &Global, config: &Config) -> Result<Self, lock::Error> {
        let provider = config.connect().await?;
        let context = Self { global: global.clone(), config: config.clone(), provider };
        context.note(|| match place::open_url(&context.config) {
            Some(url) => format!("the locks are in {url}"),
            None => format!("the locks are in a {} store", context.provider.profile().name),
        });
        Ok(context)
    }

    /// Says something to those who asked for it with `-v`.
    fn note(&self, message: impl FnOnce() -> String) {
        if self.global.verbose {
            output::say(&message());
        }
    }

    /// Settles what is still owed to the store and closes the connection.
    async fn close(&self) {
        if let Err(error) = self.provider.shutdown(FAREWELL).await {
            let known = error.kind() == ErrorKind::Timeout;
            let fate = if known { "" } else { "; the locks end by their TTL" };
            output::say(&format!("{error}{fate}"));
        }
    }

    /// Refuses a time to live that the store cannot keep.
    fn check_ttl(&self, flag: &str, ttl: Duration) -> Result<(), Outcome> {
        let (name, max) = (self.provider.profile().name, self.provider.profile().ttl_max);
        if ttl <= max {
            return Ok(());
        }
        Err(Outcome::usage(format!("{flag} may be at most {} s on {name}", max.as_secs())))
    }
}

/// Does what the command line asks for.
pub(crate) fn run(cli: Cli, fronted: bool) -> Result<Outcome, Outcome> {
    let global = cli.global;
    match cli.command {
        Command::Run(args) => reported(args.claim.result_fd, fronted, async |caller| {
            run::run(global, &args, caller).await
        }),
        Command::Elect(args) => {
            reported(None, fronted, async |caller| elect::elect(global, &args, caller).await)
        }
        Command::Acquire(args) => reported(args.claim.result_fd, fronted, async |caller| {
            acquire::acquire(global, &args, caller).await
        }),
        Command::Renew(args) => simple(global, async |context| renew::renew(context, &args).await),
        Command::Release(args) => {
            simple(global, async |context| release::release(context, &args).await)
        }
        Command::Status(key) => {
            simple(global, async |context| status::status(context, key.get()?).await)
        }
        Command::List(args) => {
            simple(global, async |context| list::list(context, args.prefix()?).await)
        }
        Command::Watch(args) => watch::watch(global, &args),
        Command::Unlock(args) => {
            unlock::check(&args)?;
            simple(global, async |context| unlock::unlock(context, &args).await)
        }
        Command::Cleanup => simple(global, cleanup::cleanup),
        Command::Profile => simple(global, profile::profile),
        Command::Schema => schema::schema(&global),
        Command::Completions(args) => completions::completions(&args),
        Command::Man => man::man(),
    }
}

/// Runs a command that listens to signals and reports its outcome.
fn reported(
    result_fd: Option<i32>,
    fronted: bool,
    command: impl AsyncFnOnce(&mut Caller) -> Result<Outcome, Outcome>,
) -> Result<Outcome, Outcome> {
    let result = ResultFd::take(result_fd)?;
    let outcome = block_on(async {
        let mut caller = Caller::listen(fronted)?;
        command(&mut caller).await
    });
    result.write(outcome.as_ref().unwrap_or_else(|outcome| outcome));
    outcome
}

/// Runs a command that needs nothing but the store.
fn simple(
    global: Global,
    command: impl AsyncFnOnce(&Context) -> Result<(), Outcome>,
) -> Result<Outcome, Outcome> {
    block_on(async {
        let context = Context::open(global).await?;
        let done = command(&context).await;
        context.close().await;
        done.map(|()| Outcome::quiet("done", Code::OK))
    })
}

fn block_on(command: impl Future<Output = Result<Outcome, Outcome>>) -> Result<Outcome, Outcome> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Outcome::bug(format!("cannot start the runtime: {error}")))?;
    let outcome = runtime.block_on(command);
    // What the store left unfinished must not keep us.
    runtime.shutdown_background();
    outcome
}

/// What cannot be shown: of a key whose data makes no sense, with the way out.
fn not_shown(error: lock::Error) -> Outcome {
    let key = error.key().filter(|_| error.kind() == ErrorKind::Corrupt);
    let way_out = key.map(|key| format!("; lockctl unlock --force {key:?} clears it away"));
    let outcome = Outcome::from(error);
    Outcome { message: outcome.message.clone() + &way_out.unwrap_or_default(), ..outcome }
}

/// The lock of a handle is gone.
fn not_held(error: lock::Error) -> Outcome {
    match error.kind() {
        ErrorKind::NotHeld | ErrorKind::Lost => {
            let message = "this handle does not hold the lock any more: it expired, was released, or \
                           was taken away; acquire it again";
            Outcome::new("not_held", Code::NOT_HELD, message)
        }
        _ => error.into(),
    }
}
