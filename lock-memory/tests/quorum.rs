//! Runs the conformance suite on combinations of stores in memory: a quorum over three, whole, with one
//! that fails and with one that hangs, and duals over two.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use conformance_tests::Fault;
use conformance_tests::Fixture;
use conformance_tests::Unsupported;
use conformance_tests::async_trait;
use lock_core::Clock;
use lock_core::Dual;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Quorum;
use lock_core::QuorumOptions;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_memory::Call;
use lock_memory::Memory;
use lock_memory::Store;
use lock_memory::When;

fn main() -> ExitCode {
    let fixture = |name, combine| -> Arc<dyn Fixture> {
        Arc::new(Combined { name, combine, stores: Mutex::default() })
    };
    conformance_tests::run(vec![
        fixture("quorum", whole),
        fixture("quorum-one-failing", one_failing),
        fixture("quorum-one-hanging", one_hanging),
        fixture("dual", dual),
        fixture("dual-session", dual_with_a_session),
    ])
}

type Combine = fn(&[Store; 3]) -> Result<SharedBackend>;

fn clients(stores: &[Store; 3]) -> [Memory; 3] {
    [0, 1, 2].map(|at| Memory::new(&stores[at]))
}

fn quorum(members: [Memory; 3]) -> Result<SharedBackend> {
    let members = members.map(|memory| -> SharedBackend { Arc::new(memory) });
    Ok(Arc::new(Quorum::new(members, QuorumOptions::new())?))
}

fn whole(stores: &[Store; 3]) -> Result<SharedBackend> {
    quorum(clients(stores))
}

fn one_failing(stores: &[Store; 3]) -> Result<SharedBackend> {
    let members = clients(stores);
    let refused = Error::new(ErrorKind::Unavailable, "connection refused");
    members[1].controls().fail_all(refused);
    quorum(members)
}

fn one_hanging(stores: &[Store; 3]) -> Result<SharedBackend> {
    let members = clients(stores);
    for call in Call::ALL {
        members[1].controls().delay(call, When::Before, Duration::from_secs(3600));
    }
    quorum(members)
}

fn dual(stores: &[Store; 3]) -> Result<SharedBackend> {
    let [old, new, _] = clients(stores).map(|memory| -> SharedBackend { Arc::new(memory) });
    Ok(Arc::new(Dual::new(old, new)?))
}

fn dual_with_a_session(stores: &[Store; 3]) -> Result<SharedBackend> {
    let old: SharedBackend = Arc::new(Memory::new(&stores[0]));
    let new: SharedBackend = Arc::new(Memory::with_session(&stores[1], Duration::from_secs(1)));
    Ok(Arc::new(Dual::new(old, new)?))
}

struct Combined {
    name: &'static str,
    combine: Combine,
    stores: Mutex<HashMap<String, [Store; 3]>>,
}

impl Combined {
    fn stores(&self, namespace: &str) -> [Store; 3] {
        let mut stores = self.stores.lock().expect("nothing panics while it picks stores");
        let new = || [(); 3].map(|()| Store::new(Clock::system()));
        stores.entry(namespace.into()).or_insert_with(new).clone()
    }
}

#[async_trait]
impl Fixture for Combined {
    fn name(&self) -> &str {
        self.name
    }

    fn repeats_fences(&self) -> bool {
        self.name.starts_with("dual")
    }

    fn refuses_only_held(&self) -> bool {
        false
    }

    async fn connect(&self, namespace: &str) -> Result<SharedBackend> {
        (self.combine)(&self.stores(namespace))
    }

    async fn fault(&self, namespace: &str, fault: Fault) -> Result<(), Unsupported> {
        match fault {
            Fault::Forget => {
                let members = clients(&self.stores(namespace));
                members.iter().for_each(|memory| memory.controls().forget_everything());
                Ok(())
            }
            Fault::Restart => Err(Unsupported("members that restart are out for the longest TTL")),
            _ => Err(Unsupported("memory holds nothing that is not ours")),
        }
    }
}
