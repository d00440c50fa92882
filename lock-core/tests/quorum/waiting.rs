//! Waiting through the engine, with a member that fails or hangs.

use std::sync::Arc;

use lock_core::Background;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::LockOptions;
use lock_core::LockProvider as _;
use lock_core::Quorum;
use lock_core::QuorumOptions;
use lock_core::SharedBackend;
use lock_memory::Call;
use lock_memory::Memory;
use lock_memory::When;
use tokio::runtime::Handle;

use crate::rig::Rig;
use crate::rig::SECOND;
use crate::rig::ms;
use crate::rig::refused;

type Hurt = fn(&Memory);

/// An engine over clients of its own, whose second member is treated by `hurt`.
fn engine(rig: &Rig, hurt: Hurt) -> Engine {
    let members: Vec<_> = rig.stores.iter().map(Memory::new).collect();
    hurt(&members[1]);
    let members = members.into_iter().map(|memory| -> SharedBackend { Arc::new(memory) });
    let background = || Background::Runtime(Handle::current());
    let options = QuorumOptions::new().clock(rig.hand.clock()).background(background());
    let quorum = Quorum::new(members, options).unwrap();
    let options = EngineOptions::new().clock(rig.hand.clock()).background(background());
    Engine::new(Arc::new(quorum), options).unwrap()
}

fn leave(_member: &Memory) {}

fn fails(member: &Memory) {
    member.controls().fail_all(refused());
}

fn hangs(member: &Memory) {
    for call in Call::ALL {
        member.controls().delay(call, When::Before, SECOND * 3600);
    }
}

#[tokio::test]
async fn ends_with_the_release_whatever_one_member_does() {
    let cases = [(leave as Hurt, ms(0)), (fails, ms(0)), (hangs, ms(100))];
    for (at, (hurt, bound)) in cases.into_iter().enumerate() {
        let rig = Rig::new();
        let (holder, waiter) = (engine(&rig, hurt), engine(&rig, hurt));
        let mut held = rig.during(SECOND, holder.lock("job", &LockOptions::new())).await.unwrap();
        for round in 0..5 {
            let (next, clock) = (waiter.clone(), rig.hand.clock());
            let waiting = tokio::spawn(async move {
                let guard = next.lock("job", &LockOptions::new()).await.unwrap();
                (guard, clock.now())
            });
            rig.hand.advance(SECOND * 3).await;
            let freed = rig.hand.clock().now();
            rig.during(SECOND, held.unlock()).await.unwrap();
            rig.hand.advance(SECOND * 5).await;
            assert!(waiting.is_finished(), "case {at}, round {round}: it waits for ever");
            let (guard, granted) = waiting.await.unwrap();
            let took = granted.saturating_since(freed);
            assert!(took <= bound, "case {at}, round {round}: {took:?}");
            held = guard;
        }
    }
}
