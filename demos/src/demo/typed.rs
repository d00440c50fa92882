//! The commands of the ten demos as people type them, run by a shell: `redis-cli` and `psql` see our locks as they see each
//! other's.

use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

use lock::LockOptions;
use tokio::task::spawn_blocking;

use crate::redis_cli::NIL;
use crate::servers::Servers;
use crate::servers::connect;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;

/// Where both programs find their servers.
const REDIS_CLI: &str = r#"redis-cli -u "$REDIS""#;
const PSQL: &str = r#"psql -XqAt "$POSTGRES""#;

/// What is typed, and what is answered; redis-cli answers nothing for nil when it writes to no terminal.
type Lines = [(&'static str, &'static str)];

const SET_NX: &Lines = &[
    ("redis-cli PING", "PONG"),
    (r#"redis-cli SET "lock:payment:user123" "instance-1" NX PX 5000"#, "OK"),
    (r#"redis-cli SET "lock:payment:user123" "instance-2" NX PX 5000"#, ""),
];

const EXPIRY: &Lines = &[
    (r#"redis-cli SET "lock:test" "worker-1" NX PX 5000"#, "OK"),
    ("redis-cli TTL lock:test", "5"),
    ("sleep 3", ""),
    ("redis-cli TTL lock:test", "2"),
    ("sleep 3", ""),
    (r#"redis-cli GET "lock:test""#, ""),
];

const TOKENS: &Lines = &[
    (r#"TOKEN_A=$(redis-cli INCR "fence:order:123"); echo $TOKEN_A"#, "1"),
    (r#"TOKEN_B=$(redis-cli INCR "fence:order:123"); echo $TOKEN_B"#, "2"),
    (r#"redis-cli GET "fence:order:123""#, "2"),
];

const WATCH: &Lines = &[
    (r#"redis-cli KEYS "lock:*""#, "lock:order:123"),
    (r#"redis-cli TTL "lock:order:123""#, "30"),
    (r#"redis-cli KEYS "lock:*" | wc -l"#, "1"),
    ("redis-cli INFO stats | grep -c total_commands", "1"),
];

const ADVISORY: &str =
    "SELECT pg_advisory_lock(123); SELECT pg_sleep(1); SELECT pg_advisory_unlock(123);";

const ROW: &str = "CREATE TABLE orders (id int PRIMARY KEY, status text); \
                   INSERT INTO orders VALUES (123, 'pending');";
const FIRST: &str =
    "BEGIN; SELECT * FROM orders WHERE id = 123 FOR UPDATE; SELECT pg_sleep(1); COMMIT;";
const SECOND: &str = "BEGIN; SELECT * FROM orders WHERE id = 123 FOR UPDATE; \
                      UPDATE orders SET status = 'completed' WHERE id = 123; COMMIT;";

pub(crate) async fn run(story: &Story, servers: &mut Servers) -> Result {
    for (program, package) in [("redis-cli", "redis-tools"), ("psql", "postgresql-client")] {
        if test_servers::find(program).is_none() {
            return Err(format!("{program} is not installed: apt-get install {package}").into());
        }
    }
    let (redis, postgres) = (servers.redis()?, servers.postgres().await?);
    let shell = Shell { story: *story, redis, postgres };
    shell.of_redis().await?;
    shell.of_postgres().await
}

struct Shell {
    story: Story,
    redis: String,
    postgres: String,
}

impl Shell {
    async fn of_redis(&self) -> Result {
        self.story.part("redis-cli, by itself and then beside us:");
        let key = "lock:payment:user123";
        self.answers(SET_NX).await?;
        let locks = connect(&self.redis).await?;
        let ours = locks.try_lock(key, &LockOptions::new()).await?.acquired();
        self.story.check(ours.is_none(), "what redis-cli has set keeps us out")?;
        self.answers(EXPIRY).await?;
        self.answers(TOKENS).await?;
        let guard = locks.lock("lock:order:123", &LockOptions::new().ttl(ms(30_000))).await?;
        self.answers(WATCH).await?;
        let token = self.run(r#"redis-cli GET "lock:order:123""#).await?;
        self.story.check(token.len() == 32, "what we have, redis-cli shows")?;
        let monitor = "timeout 1 redis-cli MONITOR | grep lock | head -n 1";
        let (seen, unlocked) = tokio::join!(self.run(monitor), async {
            pause(ms(500)).await;
            guard.unlock().await
        });
        unlocked?;
        self.story.check(seen?.contains("lock:order:123"), "and MONITOR what we do")
    }

    async fn of_postgres(&self) -> Result {
        self.story.part("psql, in two sessions:");
        let psql = |statements: &str| format!("psql << EOF\n{statements}\nEOF");
        let (held, tried) = tokio::join!(self.run_owned(psql(ADVISORY)), async {
            pause(ms(500)).await;
            self.run_owned(psql("SELECT pg_try_advisory_lock(123);")).await
        });
        self.story.check(held?.ends_with('t'), "one has lock 123 and gives it back")?;
        self.story.check(tried? == "f", "the other is told that it is held")?;
        self.run_owned(psql(ROW)).await?;
        let (first, second) = tokio::join!(self.run_owned(psql(FIRST)), async {
            pause(ms(300)).await;
            let begun = Instant::now();
            self.run_owned(psql(SECOND)).await.map(|_| begun.elapsed())
        });
        first?;
        self.story.check(second? > ms(500), "FOR UPDATE waits for the other's commit")?;
        let status = self.run_owned(psql("SELECT status FROM orders WHERE id = 123;")).await?;
        self.story.check(status == "completed", "and then the order is completed")
    }

    /// Types each line and compares its answer.
    async fn answers(&self, lines: &Lines) -> Result {
        for (line, expected) in lines {
            let answer = self.run(line).await?;
            // The second before is as good: a second may begin meanwhile.
            let earlier = expected.parse::<u32>().map(|it| it.wrapping_sub(1).to_string());
            let is_time = line.contains("TTL") && earlier.is_ok_and(|it| it == answer);
            if answer != *expected && !is_time {
                return Err(format!("wrong: {line} is answered by {answer:?}").into());
            }
        }
        self.story.ok("each is answered as it should be");
        Ok(())
    }

    async fn run_owned(&self, line: String) -> Result<String> {
        self.run(&line).await
    }

    async fn run(&self, line: &str) -> Result<String> {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(line.replace("redis-cli", REDIS_CLI).replace("psql", PSQL));
        shell.env("REDIS", &self.redis).env("POSTGRES", &self.postgres).stdin(Stdio::null());
        let output = spawn_blocking(move || shell.output()).await??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let (answer, said) = (text(&output.stdout), text(&output.stderr));
        if answer.is_empty() && !said.is_empty() {
            return Err(format!("{line}: {said}").into());
        }
        let shown = line.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        let told = answer.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_nil = told.is_empty() && line.starts_with("redis-cli");
        self.story.tell("$", format!("{shown}: {}", if is_nil { NIL } else { &told }));
        Ok(answer)
    }
}
